/* What the sandbox forbids, by trying it: each case in a process of its own, in the thread that sealed and in
 * one that was there before. */
#include "check.h"
#include "sandbox/sandbox.h"
#include "temp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { GO, UNSUPPORTED = 77 };

static char *folder;              /* model/ cache/ secret/ */
static uint16_t port, other_port; /* somebody listens at both */

static const char *in(const char *name)
{
    static char path[4][LOAMI_PATH_MAX];
    static int n;
    snprintf(path[n = (n + 1) % 4], LOAMI_PATH_MAX, "%s/%s", folder, name);
    return path[n];
}

static int opens(const char *name, int how)
{
    int fd = open(name[0] == '/' ? name : in(name), how, 0600);
    if (fd < 0) return errno;
    close(fd);
    return 0;
}

static int reads(const char *name)
{
    return opens(name, O_RDONLY);
}

static int writes(const char *name)
{
    return opens(name, O_WRONLY | O_CREAT);
}

static int connects(uint16_t to, int type)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons(to),
                             .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int fd = socket(AF_INET, type, 0), why = 0;
    if (fd < 0) return errno;
    if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) why = errno;
    close(fd);
    return why;
}

static int starts(void)
{
    char *argv[] = { (char *)"true", NULL };
    pid_t child;
    int why = posix_spawn(&child, "/bin/true", NULL, NULL, argv, argv + 1);
    if (!why) waitpid(child, NULL, 0);
    return why;
}

static bool refused(int why)
{
    return why == EPERM || why == EACCES || why == EXDEV;
}

#define NEED(what)                                                                                           \
    do {                                                                                                     \
        if (!(what)) {                                                                                       \
            fprintf(stderr, "in %s: %s\n", where, #what);                                                    \
            return false;                                                                                    \
        }                                                                                                    \
    } while (0)

/* ---- the server's rules -------------------------------------------------------------------------- */

static loami_sandbox_rules rules;
static loami_sandbox box;

static bool holds_after_files(const char *where)
{
    NEED(reads("model/config.json") == 0);
    NEED(reads("model/link") == 0);
    NEED(reads("/dev/null") == 0);
    if (!box.files) return true;
    NEED(refused(reads("secret/key")));
    NEED(refused(reads("/etc/passwd")));
    NEED(refused(writes("model/new")));
    NEED(!rules.n_write || writes("cache/new") == 0);
    NEED(!box.ports || refused(connects(other_port, SOCK_STREAM)));
    return true;
}

static bool holds_after_seal(const char *where)
{
    NEED(refused(starts()));
    NEED(refused(fork() < 0 ? errno : 0));
    NEED(rules.opens_later ? reads("model/config.json") == 0 : refused(reads("model/config.json")));
    NEED((!box.files && rules.opens_later) || refused(reads("secret/key")));
    NEED((!box.files && rules.n_write) || refused(writes("secret/new")));
    NEED(!rules.n_write || (writes("cache/new") == 0 && rename(in("cache/new"), in("cache/newer")) == 0));
    NEED(refused(rename(in("secret/key"), in("secret/gone")) < 0 ? errno : 0) ||
         (!box.files && rules.n_write));
    NEED(rules.connects ? connects(port, SOCK_STREAM) == 0 : refused(connects(port, SOCK_STREAM)));
    NEED((rules.connects && !box.ports) || refused(connects(other_port, SOCK_STREAM)));
    NEED(refused(connects(port, SOCK_DGRAM)));
    return true;
}

static pthread_barrier_t sealed;

static void *bystander(void *arg)
{
    bool *fine = arg;
    *fine = holds_after_files("a thread");
    pthread_barrier_wait(&sealed); /* not before this */
    pthread_barrier_wait(&sealed); /* it is */
    *fine = *fine && holds_after_seal("a thread");
    return NULL;
}

static void *late(void *arg)
{
    *(bool *)arg = holds_after_seal("a thread made later");
    return NULL;
}

static int in_child(void)
{
    loam_err err;
    bool fine = false, fine_late = false;
    pthread_t thread;
    if (loami_sandbox_files(&box, &rules, &err) < 0) return err.code == LOAM_E_UNSUPPORTED ? UNSUPPORTED : 2;
    if (!holds_after_files("the first thread")) return 3;
    pthread_barrier_init(&sealed, NULL, 2);
    pthread_create(&thread, NULL, bystander, &fine);
    pthread_barrier_wait(&sealed);
    if (loami_sandbox_seal(&box, &rules, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return err.code == LOAM_E_UNSUPPORTED ? UNSUPPORTED : 4;
    }
    pthread_barrier_wait(&sealed);
    pthread_join(thread, NULL);
    if (pthread_create(&thread, NULL, late, &fine_late) != 0) return 5;
    pthread_join(thread, NULL);
    return fine && fine_late && holds_after_seal("the first thread") ? GO : 6;
}

static void try_it(void)
{
    char model[LOAMI_PATH_MAX];
    loam_err err;
    snprintf(model, sizeof model, "%s", in("model"));
    assert_int_equal(loami_sandbox_add_folder(&rules, model, &err), 0);
    int status;
    pid_t child = fork();
    if (child == 0) _exit(in_child());
    assert_true(waitpid(child, &status, 0) == child && WIFEXITED(status));
    for (uint32_t i = 0; i < rules.n_read; i++) free((char *)rules.read[i]);
    if (WEXITSTATUS(status) == UNSUPPORTED) skip();
    assert_int_equal(WEXITSTATUS(status), GO);
}

static void test_server(void **state)
{
    (void)state;
    rules = (loami_sandbox_rules){ 0 };
    try_it();
}

static void test_server_that_reads_again(void **state)
{
    (void)state;
    rules = (loami_sandbox_rules){ .opens_later = true };
    try_it();
}

static void test_gateway(void **state)
{
    (void)state;
    rules = (loami_sandbox_rules){ .opens_later = true,
                                   .connects = true,
                                   .connect = { port },
                                   .n_connect = 1,
                                   .write = { in("cache") },
                                   .n_write = 1 };
    try_it();
}

static void test_without_landlock(void **state)
{
    (void)state;
    rules = (loami_sandbox_rules){ .without_landlock = true };
    try_it();
    rules = (loami_sandbox_rules){ .without_landlock = true, .opens_later = true };
    try_it();
    rules = (loami_sandbox_rules){
        .without_landlock = true, .opens_later = true, .connects = true, .connect = { port }, .n_connect = 1
    };
    try_it();
}

/* A model as the Hugging Face cache has it, of more files than there is room for names. */
static void test_a_folder_of_links(void **state)
{
    char snapshot[LOAMI_PATH_MAX], name[64], text[64];
    loam_err err;
    (void)state;
    loami_sandbox_rules r = { 0 };
    assert_int_equal(loami_dir_make(in("hub/snapshots/1"), &err), 0);
    assert_int_equal(loami_dir_make(in("hub/blobs"), &err), 0);
    for (int i = 0; i < LOAMI_SANDBOX_PATHS + 10; i++) {
        snprintf(name, sizeof name, "hub/blobs/%d", i);
        temp_write(folder, name, "x", 1);
        snprintf(text, sizeof text, "../../blobs/%d", i);
        snprintf(name, sizeof name, "hub/snapshots/1/%d", i);
        assert_int_equal(symlink(text, in(name)), 0);
    }
    snprintf(snapshot, sizeof snapshot, "%s", in("hub/snapshots/1"));
    CHECK_OK(loami_sandbox_add_folder(&r, snapshot, &err), err, 0);
    CHECK_OK(loami_sandbox_add_folder(&r, snapshot, &err), err, 0);
    assert_int_equal(r.n_read, 2);
    assert_non_null(strstr(r.read[1], "hub/blobs"));
    for (uint32_t i = 0; i < r.n_read; i++) free((char *)r.read[i]);
}

static void test_words(void **state)
{
    char words[LOAMI_SANDBOX_TEXT];
    (void)state;
    loami_sandbox_words(&(loami_sandbox){ .landlock = 4, .files = true, .ports = true, .sealed = true },
                        words);
    assert_non_null(strstr(words, "no connection"));
    assert_null(strstr(words, "NOT RESTRICTED"));
    if (!strstr(words, "Landlock")) return; /* of another system */
    loami_sandbox_words(&(loami_sandbox){ .sealed = true, .opens_later = true, .connects = true }, words);
    assert_non_null(strstr(words, "WHICH FILES ARE READ IS NOT RESTRICTED"));
    assert_non_null(strstr(words, "WHERE CONNECTIONS GO IS NOT RESTRICTED"));
}

/* ---- around it ----------------------------------------------------------------------------------- */

static int listen_somewhere(uint16_t *at)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&a, n) == 0 && listen(fd, 64) == 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *at = ntohs(a.sin_port);
    return fd;
}

static int sockets[2];

static int begin(void **state)
{
    static const char *const folders[] = { "model", "cache", "secret", "blobs" };
    (void)state;
    folder = temp_make();
    for (int i = 0; i < 4; i++)
        if (loami_dir_make(in(folders[i]), NULL) < 0) return -1;
    temp_write(folder, "model/config.json", "{}", 2);
    temp_write(folder, "blobs/x", "{}", 2);
    temp_write(folder, "secret/key", "k", 1);
    sockets[0] = listen_somewhere(&port);
    sockets[1] = listen_somewhere(&other_port);
    return symlink("../blobs/x", in("model/link"));
}

static int end(void **state)
{
    (void)state;
    close(sockets[0]);
    close(sockets[1]);
    temp_remove(folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_server),
                                        cmocka_unit_test(test_server_that_reads_again),
                                        cmocka_unit_test(test_gateway),
                                        cmocka_unit_test(test_without_landlock),
                                        cmocka_unit_test(test_a_folder_of_links),
                                        cmocka_unit_test(test_words) };
    return cmocka_run_group_tests(tests, begin, end);
}

#include "cmd/cmd.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    loami_cmd *run;
    const char *about;
} commands[] = {
    { "serve", loami_cmd_serve, "answer the OpenAI API on a port" },
    { "gateway", loami_cmd_gateway, "one address in front of several servers" },
    { "rollout", loami_cmd_rollout, "move traffic from one engine to another, and back if it is worse" },
    { "compare", loami_cmd_compare, "the same prompts to two servers, side by side" },
    { "validate", loami_cmd_validate, "tick off a migration's checklist" },
    { "key", loami_cmd_key, "make an API key for loam serve" },
    { "chat", loami_cmd_chat, "talk with a model in the terminal" },
    { "generate", loami_cmd_generate, "answer one prompt" },
    { "pull", loami_cmd_pull, "get a model from Hugging Face or from another loam" },
    { "import", loami_cmd_import, "turn a GGUF file or an Ollama model into a model folder in MLX format" },
    { "ls", loami_cmd_ls, "list the models that are here" },
    { "ps", loami_cmd_ps, "tell which models a server has, and what they take" },
    { "du", loami_cmd_du, "tell what models take on the disk" },
    { "show", loami_cmd_show, "tell what a model is" },
    { "fit", loami_cmd_fit, "tell whether a model fits into memory, and what would" },
    { "rm", loami_cmd_rm, "remove models" },
    { "quantize", loami_cmd_quantize, "make a model smaller" },
    { "verify", loami_cmd_verify, "check a model from its hashes to its logits" },
    { "tokenize", loami_cmd_tokenize, "text to token ids and back" },
    { "template", loami_cmd_template, "render a chat template" },
    { "logits", loami_cmd_logits, "print the logits after some tokens, for checking" },
    { "perplexity", loami_cmd_perplexity, "measure how well a model predicts a text" },
    { "doctor", loami_cmd_doctor, "look at this machine, and say what to do about what is wrong" },
    { "bench", loami_cmd_bench, "measure prompt and generation speed" },
    { NULL, NULL, NULL },
};

static void print_usage(FILE *f)
{
    fprintf(f, "loam %s: serve large language models on the machines you own\n\nUsage: loam COMMAND [options]\n\n", loam_version());
    for (size_t i = 0; commands[i].name; i++) fprintf(f, "  %-12s %s\n", commands[i].name, commands[i].about);
    fprintf(f, "\nloam COMMAND --help tells the options of each.\n");
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        printf("loam %s\n", loam_version());
        return LOAMI_EXIT_OK;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_usage(stdout);
        return LOAMI_EXIT_OK;
    }
    for (size_t i = 0; commands[i].name; i++)
        if (strcmp(name, commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    if (!name[0]) print_usage(stderr);
    else fprintf(stderr, "loam: unknown command %s (see loam --help)\n", name);
    return LOAMI_EXIT_USAGE;
}

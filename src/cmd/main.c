#include "cmd/cmd.h"

#include <stdio.h>
#include <string.h>

static const loami_command commands[] = {
    { "serve", loami_cmd_serve, "answer the OpenAI API on a port", NULL },
    { "gateway", loami_cmd_gateway, "one address in front of several servers", loami_gateway_verbs },
    { "rollout", loami_cmd_rollout, "move traffic from one engine to another, and back if it is worse", loami_rollout_verbs },
    { "compare", loami_cmd_compare, "the same prompts to two servers, side by side", NULL },
    { "validate", loami_cmd_validate, "tick off a migration's checklist", NULL },
    { "key", loami_cmd_key, "make an API key for loam serve", NULL },
    { "chat", loami_cmd_chat, "talk with a model in the terminal", NULL },
    { "generate", loami_cmd_generate, "answer one prompt", NULL },
    { "pull", loami_cmd_pull, "get a model from Hugging Face or from another loam", NULL },
    { "import", loami_cmd_import, "turn a GGUF file or an Ollama model into a model folder in MLX format", NULL },
    { "ls", loami_cmd_ls, "list the models that are here", NULL },
    { "ps", loami_cmd_ps, "tell which models a server has, and what they take", NULL },
    { "du", loami_cmd_du, "tell what models take on the disk", NULL },
    { "show", loami_cmd_show, "tell what a model is", NULL },
    { "fit", loami_cmd_fit, "tell whether a model fits into memory, and what would", NULL },
    { "rm", loami_cmd_rm, "remove models", NULL },
    { "quantize", loami_cmd_quantize, "make a model smaller", NULL },
    { "verify", loami_cmd_verify, "check a model from its hashes to its logits", NULL },
    { "tokenize", loami_cmd_tokenize, "text to token ids and back", NULL },
    { "template", loami_cmd_template, "render a chat template", NULL },
    { "logits", loami_cmd_logits, "print the logits after some tokens, for checking", NULL },
    { "perplexity", loami_cmd_perplexity, "measure how well a model predicts a text", NULL },
    { "doctor", loami_cmd_doctor, "look at this machine, and say what to do about what is wrong", NULL },
    { "bench", loami_cmd_bench, "measure prompt and generation speed", NULL },
    { "service", loami_cmd_service, "run the server or the gateway under launchd or systemd", loami_service_verbs },
    { "audit", loami_cmd_audit, "run the server under observation: its files, connections and programs", NULL },
    { "config", loami_cmd_config, "what a command's settings are, and where each comes from", NULL },
    { "completion", loami_cmd_completion, "completion for bash, zsh and fish", NULL },
    { "man", loami_cmd_man, "the manual page of a command", NULL },
    { NULL, NULL, NULL, NULL },
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
    loami_commands = commands;
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

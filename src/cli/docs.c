/* SPDX-License-Identifier: Apache-2.0 */
/* docs.c - tidemill docs man|bash|zsh|config|config-man: the man page's options and the shells'
 * completions from the options table, the schema of tidemill.yaml from the table of its keys. The build
 * calls it; so they cannot fall behind. */
#include "cli/cli.h"

#include "server/server.h"

#include <stdio.h>
#include <string.h>

/* Of `tidemill bench` alone; the others are in the table. */
/* Commands in completions, with a word on each. */
static const struct {
    const char *name, *help;
    const char *flags; /* of one with options of its own; NULL: those of the table */
} commands[] = {
    {"run", "run one job", NULL},
    {"serve", "serve models and queues", "--listen --data --log-format --help"},
    {"check", "read tidemill.yaml", "--help"},
    {"key", "make, list and revoke API keys",
     "--data --name --tenant --queues --rpm --budget --admin --json --help"},
    {"submit", "send requests to a server",
     "--endpoint --window --budget --wait --output --errors --queue --server --json --help"},
    {"status", "show a batch", "--server --json --help"},
    {"results", "write the answers of a batch", "--follow --output --errors --server --help"},
    {"get", "print what a queue answered", "--server --help"},
    {"cancel", "cancel a batch", "--server --json --help"},
    {"ls", "list batches", "--limit --server --json --help"},
    {"inspect", "show a model", NULL},
    {"bench", "measure a model", NULL},
    {"cache", "results shared between jobs", "--json --max-bytes --help"},
    {"prices", "list prices", "--help"},
};

#define BENCH_FLAGS "--batch-sizes --lengths --seconds --json --plot"

/* Man pages want hyphens and backslashes escaped. */
static void man_text(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '-' || *text == '\\') putchar('\\');
        putchar(*text);
    }
}

static void man_option(const struct option *option)
{
    puts(".TP");
    fputs(".B ", stdout);
    if (option->short_name != 0) printf("\\-%c\\fR, \\fB", option->short_name);
    fputs("\\-\\-", stdout);
    man_text(option->name);
    if (option->type != OPTION_FLAG) {
        fputs("\\fR=\\fI", stdout);
        man_text(option->value != NULL ? option->value : option->choices);
    }
    fputs("\\fR\n", stdout);
    man_text(option->help);
    if (option->default_text != NULL) {
        fputs(". Default: ", stdout);
        man_text(option->default_text);
    }
    puts(".");
}

static int print_man(void)
{
    const char *group = "";
    for (size_t i = 0; i < n_job_options; i++) {
        if (strcmp(group, job_options[i].group) != 0) {
            group = job_options[i].group;
            printf(".SS %s\n", group);
        }
        man_option(&job_options[i]);
    }
    return 0;
}

static void print_choices(const char *choices)
{
    for (const char *p = choices; *p != '\0'; p++) putchar(*p == '|' ? ' ' : *p);
}

/* Commands with options of their own have those, and files. */
static void print_bash_flags(void)
{
    puts("    case ${COMP_WORDS[1]},$cur in");
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (commands[i].flags != NULL && strcmp(commands[i].name, "cache") != 0)
            printf("        %s,-*) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n"
                   "        %s,*) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n",
                   commands[i].name, commands[i].flags, commands[i].name);
    puts("    esac");
}

static int print_bash(void)
{
    fputs("# bash completion for tidemill; made by 'tidemill docs bash'.\n"
          "_tidemill()\n{\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    if [ \"$cur\" = = ]; then cur=; fi\n"
          "    if [ \"$prev\" = = ]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
          "        COMPREPLY=($(compgen -W '",
          stdout);
    for (size_t i = 0; i < COUNT_OF(commands); i++) printf("%s ", commands[i].name);
    puts("--help --version' -- \"$cur\"))\n"
         "        return\n    fi");
    print_bash_flags();
    puts("    case $prev in");
    for (size_t i = 0; i < n_job_options; i++) {
        if (job_options[i].type != OPTION_CHOICE) continue;
        printf("        --%s) COMPREPLY=($(compgen -W '", job_options[i].name);
        print_choices(job_options[i].choices);
        puts("' -- \"$cur\")); return ;;");
    }
    puts("    esac\n"
         "    if [ \"${COMP_WORDS[1]}\" = cache ]; then\n"
         "        case $COMP_CWORD,$cur in\n"
         "            2,*) COMPREPLY=($(compgen -W 'stat prune clear' -- \"$cur\")) ;;\n"
         "            *,-*) COMPREPLY=($(compgen -W '--json --max-bytes --help' -- \"$cur\")) ;;\n"
         "            *) COMPREPLY=($(compgen -d -- \"$cur\")) ;;\n"
         "        esac\n"
         "        return\n    fi\n"
         "    local bench=\n"
         "    if [ \"${COMP_WORDS[1]}\" = bench ]; then bench='" BENCH_FLAGS "'; fi\n"
         "    case $cur in");
    fputs("        -*) COMPREPLY=($(compgen -W '", stdout);
    for (size_t i = 0; i < n_job_options; i++) printf("--%s ", job_options[i].name);
    puts("--help'\" $bench\" -- \"$cur\")) ;;\n"
         "        *) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
         "    esac\n}\n"
         "complete -o filenames -F _tidemill tidemill");
    return 0;
}

/* Inside single quotes and brackets of an _arguments line. */
static void zsh_text(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            fputs("'\\''", stdout);
            continue;
        }
        if (strchr("[]:\\", *text) != NULL) putchar('\\');
        putchar(*text);
    }
}

static void zsh_option(const struct option *option)
{
    bool is_list = option->type == OPTION_LIST || option->type == OPTION_COMMAS;
    printf("        '%s--%s%s[", is_list ? "*" : "", option->name,
           option->type == OPTION_FLAG ? "" : "=");
    zsh_text(option->help);
    fputs("]", stdout);
    if (option->type == OPTION_CHOICE) {
        fputs(":value:(", stdout);
        print_choices(option->choices);
        putchar(')');
    } else if (option->type == OPTION_PATH || strcmp(option->name, "input") == 0) {
        fputs(":file:_files", stdout);
    } else if (option->type != OPTION_FLAG) {
        fputs(":value:", stdout);
    }
    puts("' \\");
}

static void print_zsh_flags(void)
{
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (commands[i].flags == NULL || strcmp(commands[i].name, "cache") == 0) continue;
        printf("elif [[ ${words[2]} = %s ]]; then\n    _arguments", commands[i].name);
        for (const char *flag = commands[i].flags; *flag != '\0';) {
            int length = (int)strcspn(flag, " ");
            printf(" '%.*s'", length, flag);
            flag += length + (flag[length] == ' ');
        }
        puts(" '*:file:_files'");
    }
}

static int print_zsh(void)
{
    puts("#compdef tidemill\n# zsh completion for tidemill; made by 'tidemill docs zsh'.\n"
         "if (( CURRENT == 2 )); then\n"
         "    _values command \\");
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        printf("        '%s[%s]'%s\n", commands[i].name, commands[i].help,
               i + 1 < COUNT_OF(commands) ? " \\" : "");
    print_zsh_flags();
    puts(""
         "elif [[ ${words[2]} = cache ]]; then\n"
         "    if (( CURRENT == 3 )); then\n"
         "        _values action 'stat[what is in it]' 'prune[drop the oldest]' 'clear[drop all]'\n"
         "    else\n"
         "        _arguments '--json[print JSON]' '--max-bytes=[what may stay]:size:' "
         "'--help[show help]' '*:folder:_files -/'\n"
         "    fi\n"
         "else\n    _arguments \\");
    for (size_t i = 0; i < n_job_options; i++) zsh_option(&job_options[i]);
    puts("        '--batch-sizes=[bench: sizes to measure]:value:' \\\n"
         "        '--lengths=[bench: lengths of random records]:value:' \\\n"
         "        '--seconds=[bench: time for one size]:value:' \\\n"
         "        '--json[bench: print JSON]' \\\n"
         "        '--plot=[bench: write the curves as SVG]:file:_files' \\");
    puts("        '--help[show help]' '*:file:_files'\nfi");
    return 0;
}

static int print_config(bool is_man)
{
    struct buffer out = {0};
    server_config_docs(is_man, &out);
    bool is_written = !out.is_failed && fwrite(out.data, 1, out.size, stdout) == out.size;
    buffer_free(&out);
    return is_written ? 0 : 3;
}

int cli_docs(int argc, char **argv)
{
    const char *kind = argc == 2 ? argv[1] : "";
    if (strcmp(kind, "man") == 0) return print_man();
    if (strcmp(kind, "bash") == 0) return print_bash();
    if (strcmp(kind, "zsh") == 0) return print_zsh();
    if (strcmp(kind, "config") == 0) return print_config(false);
    if (strcmp(kind, "config-man") == 0) return print_config(true);
    fputs("Usage: tidemill docs man|bash|zsh|config|config-man\n", stderr);
    return 2;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* config_docs.c - the table of keys for people: in Markdown, and as a part of a man page. */
#include "server/config_parts.h"

static const char *value_of(const struct option *option)
{
    if (option->choices != NULL) return option->choices;
    if (option->type == OPTION_FLAG && option->value == NULL) return "true|false";
    return option->value;
}

static void escape(const char *text, const char *letters, struct buffer *out)
{
    for (; *text != '\0'; text++) {
        if (strchr(letters, *text) != NULL) buffer_byte(out, '\\');
        buffer_byte(out, *text);
    }
}

static void markdown_key(const struct option *option, struct buffer *out)
{
    buffer_printf(out, "| `%s` | `", option->name);
    escape(value_of(option), "|", out);
    buffer_text(out, "` | ");
    if (option->default_text != NULL) buffer_printf(out, "`%s`", option->default_text);
    buffer_text(out, " | ");
    escape(option->help, "|", out);
    buffer_text(out, " |\n");
}

static void man_key(const struct option *option, struct buffer *out)
{
    buffer_text(out, ".TP\n\\fB");
    escape(option->name, "-\\", out);
    buffer_text(out, "\\fR: \\fI");
    escape(value_of(option), "-\\", out);
    buffer_text(out, "\\fR\n");
    escape(option->help, "-\\", out);
    if (option->default_text != NULL) {
        buffer_text(out, ". Default: ");
        escape(option->default_text, "-\\", out);
    }
    buffer_text(out, ".\n");
}

void server_config_docs(bool is_man, struct buffer *out)
{
    for (int section = 0; section < SECTION_COUNT; section++) {
        if (is_man)
            buffer_printf(out, ".SS Keys of %s\n", config_section_places[section]);
        else
            buffer_printf(out,
                          "%s### Keys of %s\n\n| key | value | default | |\n|---|---|---|---|\n",
                          section == 0 ? "" : "\n", config_section_places[section]);
        for (size_t i = 0; i < n_config_keys; i++) {
            if (config_keys[i].section != (enum config_section)section) continue;
            if (is_man)
                man_key(&config_keys[i].option, out);
            else
                markdown_key(&config_keys[i].option, out);
        }
    }
}

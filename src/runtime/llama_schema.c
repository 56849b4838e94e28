/* SPDX-License-Identifier: Apache-2.0 */
/* llama_schema.c - JSON schema to GBNF. Every schema inside another becomes a rule of its own, s0, s1,
 * ..., that is written when its turn comes: a list of work instead of calls within calls. */
#include "runtime/llama_schema.h"

#include <stdlib.h>

#define SCHEMAS_MAX 4096
#define REPEATS_MAX 1000 /* llama.cpp's own limit is near it */
#define GRAMMAR_BYTES_MAX ((size_t)1 << 20)

#define REFUSE(...) return error_new(ERROR_MODEL_ERROR, __VA_ARGS__)

static const char common_rules[] =
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,8}\n"
    "char ::= [^\"\\\\\\x7F\\x00-\\x1F] | [\\\\] ([\"\\\\bfnrt/] | \"u\" [0-9a-fA-F]{4})\n"
    "string ::= \"\\\"\" char* \"\\\"\"\n"
    "integer ::= \"-\"? ([0-9] | [1-9] [0-9]{1,15})\n"
    "number ::= integer (\".\" [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?\n"
    "boolean ::= \"true\" | \"false\"\n"
    "null ::= \"null\"\n"
    "member ::= string ws \":\" ws value\n"
    "object ::= \"{\" ws (member (ws \",\" ws member)*)? ws \"}\"\n"
    "array ::= \"[\" ws (value (ws \",\" ws value)*)? ws \"]\"\n"
    "value ::= object | array | string | number | boolean | null\n";

struct conversion {
    yyjson_val **schemas; /* s0, s1, ... */
    size_t n, capacity;
    struct buffer *out;
};

/* The number of the rule that a schema will have. */
static tidemill_error *add_schema(struct conversion *c, yyjson_val *schema, size_t *ret)
{
    if (c->n == SCHEMAS_MAX) REFUSE("the schema has more than %d parts", SCHEMAS_MAX);
    if (c->n == c->capacity) {
        size_t capacity = MAX(2 * c->capacity, (size_t)16);
        yyjson_val **more = realloc(c->schemas, capacity * sizeof(yyjson_val *));
        if (more == NULL) return error_memory();
        c->schemas = more;
        c->capacity = capacity;
    }
    *ret = c->n;
    c->schemas[c->n++] = schema;
    return NULL;
}

/* "text" with what GBNF would take for its own. */
static void append_literal(struct buffer *out, const char *text, size_t size)
{
    buffer_byte(out, '"');
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"' || text[i] == '\\') buffer_byte(out, '\\');
        buffer_byte(out, text[i]);
    }
    buffer_byte(out, '"');
}

/* A JSON value as the text that it must be. */
static tidemill_error *append_value(struct buffer *out, yyjson_val *value)
{
    size_t size;
    char *text = yyjson_val_write(value, YYJSON_WRITE_NOFLAG, &size);
    if (text == NULL) return error_memory();
    append_literal(out, text, size);
    free(text);
    return NULL;
}

static tidemill_error *check_words(yyjson_val *schema)
{
    static const char *const known[] = {
        "type",        "properties", "required",   "items",    "minItems",  "maxItems",
        "minLength",   "maxLength",  "enum",       "const",    "anyOf",     "title",
        "description", "default",    "examples",   "$schema",  "$id",       "$comment",
        "strict",      "name",       "deprecated", "readOnly", "writeOnly", "additionalProperties"};
    yyjson_val *key, *value;
    size_t i, n;
    yyjson_obj_foreach(schema, i, n, key, value)
    {
        bool is_known = false;
        for (size_t k = 0; k < COUNT_OF(known); k++) is_known |= yyjson_equals_str(key, known[k]);
        if (!is_known) REFUSE("the schema's '%.60s' is not supported", yyjson_get_str(key));
    }
    return NULL;
}

static tidemill_error *get_count(yyjson_val *schema, const char *name, int64_t *ret)
{
    yyjson_val *value = yyjson_obj_get(schema, name);
    if (value == NULL) return NULL;
    if (!yyjson_is_uint(value) || yyjson_get_uint(value) > REPEATS_MAX)
        REFUSE("the schema's '%s' is not a number from 0 to %d", name, REPEATS_MAX);
    *ret = (int64_t)yyjson_get_uint(value);
    return NULL;
}

static tidemill_error *write_string(struct conversion *c, yyjson_val *schema)
{
    int64_t min = 0, max = -1;
    TRY(get_count(schema, "minLength", &min));
    TRY(get_count(schema, "maxLength", &max));
    if (max >= 0 && min > max) REFUSE("the schema's minLength is above its maxLength");
    if (max >= 0)
        buffer_printf(c->out, "\"\\\"\" char{%lld,%lld} \"\\\"\"", (long long)min, (long long)max);
    else
        buffer_printf(c->out, "\"\\\"\" char{%lld,} \"\\\"\"", (long long)min);
    return NULL;
}

static tidemill_error *write_array(struct conversion *c, yyjson_val *schema)
{
    yyjson_val *items = yyjson_obj_get(schema, "items");
    int64_t min = 0, max = -1;
    char item[32] = "value";
    TRY(get_count(schema, "minItems", &min));
    TRY(get_count(schema, "maxItems", &max));
    if (max >= 0 && min > max) REFUSE("the schema's minItems is above its maxItems");
    if (items != NULL) {
        size_t number;
        TRY(add_schema(c, items, &number));
        snprintf(item, sizeof item, "s%zu", number);
    }
    buffer_text(c->out, "\"[\" ws ");
    if (max != 0) {
        buffer_printf(c->out, "(%s (ws \",\" ws %s){%lld,", item, item,
                      (long long)MAX(min - 1, INT64_C(0)));
        if (max > 0) buffer_printf(c->out, "%lld", (long long)max - 1);
        buffer_printf(c->out, "})%s ws ", min == 0 ? "?" : "");
    }
    buffer_text(c->out, "\"]\"");
    return NULL;
}

static bool is_required(yyjson_val *schema, yyjson_val *name)
{
    yyjson_val *item;
    size_t i, n;
    yyjson_arr_foreach(yyjson_obj_get(schema, "required"), i, n, item)
    {
        if (yyjson_equals_strn(item, yyjson_get_str(name), yyjson_get_len(name))) return true;
    }
    return false;
}

static tidemill_error *check_required(yyjson_val *schema, yyjson_val *properties)
{
    yyjson_val *required = yyjson_obj_get(schema, "required"), *item;
    size_t i, n;
    if (required != NULL && !yyjson_is_arr(required)) REFUSE("the schema's 'required' is no array");
    yyjson_arr_foreach(required, i, n, item)
    {
        if (!yyjson_is_str(item) ||
            yyjson_obj_getn(properties, yyjson_get_str(item), yyjson_get_len(item)) == NULL)
            REFUSE("the schema requires a property that it does not declare");
    }
    return NULL;
}

/* The properties of rule s<number> as rules of their own, s<number>p0, ...; then what may follow the
 * k-th: s<number>a<k> where something stands before it, s<number>f<k> where nothing does yet. A comma
 * depends on that, and only on that. */
static tidemill_error *write_object(struct conversion *c, yyjson_val *schema, size_t number,
                                    struct buffer *tail)
{
    yyjson_val *properties = yyjson_obj_get(schema, "properties"), *name, *property;
    size_t k, n, n_properties = yyjson_obj_size(properties);
    if (properties != NULL && !yyjson_is_obj(properties))
        REFUSE("the schema's 'properties' is not an object");
    if (n_properties > SCHEMAS_MAX ||
        yyjson_arr_size(yyjson_obj_get(schema, "required")) > SCHEMAS_MAX)
        REFUSE("the schema is too large");
    TRY(check_required(schema, properties));
    yyjson_val *more = yyjson_obj_get(schema, "additionalProperties");
    if (n_properties == 0 && more != NULL && !yyjson_is_bool(more) && yyjson_obj_size(more) > 0)
        REFUSE("the schema's 'additionalProperties' is more than true or false");
    if (n_properties == 0) {
        buffer_text(c->out, yyjson_is_false(yyjson_obj_get(schema, "additionalProperties"))
                                ? "\"{\" ws \"}\""
                                : "object");
        return NULL;
    }
    buffer_printf(c->out, "\"{\" ws s%zuf0 ws \"}\"", number);
    yyjson_obj_foreach(properties, k, n, name, property)
    {
        size_t child;
        bool is_needed = is_required(schema, name);
        TRY(add_schema(c, property, &child));
        buffer_printf(tail, "s%zup%zu ::= ", number, k);
        TRY(append_value(tail, name));
        buffer_printf(tail, " ws \":\" ws s%zu\n", child);
        buffer_printf(tail, "s%zuf%zu ::= s%zup%zu s%zua%zu", number, k, number, k, number, k + 1);
        if (!is_needed) buffer_printf(tail, " | s%zuf%zu", number, k + 1);
        buffer_printf(tail, "\ns%zua%zu ::= ws \",\" ws s%zup%zu s%zua%zu", number, k, number, k,
                      number, k + 1);
        if (!is_needed) buffer_printf(tail, " | s%zua%zu", number, k + 1);
        buffer_byte(tail, '\n');
    }
    buffer_printf(tail, "s%zuf%zu ::= \"\"\ns%zua%zu ::= \"\"\n", number, n_properties, number,
                  n_properties);
    return NULL;
}

static tidemill_error *write_choice(struct conversion *c, yyjson_val *choices, bool are_schemas)
{
    yyjson_val *item;
    size_t i, n, number;
    if (!yyjson_is_arr(choices) || yyjson_arr_size(choices) == 0)
        REFUSE("the schema's '%s' is not an array with something in it",
               are_schemas ? "anyOf" : "enum");
    yyjson_arr_foreach(choices, i, n, item)
    {
        if (i > 0) buffer_text(c->out, " | ");
        if (!are_schemas) {
            TRY(append_value(c->out, item));
            continue;
        }
        TRY(add_schema(c, item, &number));
        buffer_printf(c->out, "s%zu", number);
    }
    return NULL;
}

static tidemill_error *write_type(struct conversion *c, yyjson_val *schema, yyjson_val *type,
                                  size_t number, struct buffer *tail)
{
    static const char *const plain[] = {"integer", "number", "boolean", "null"};
    if (yyjson_equals_str(type, "object")) return write_object(c, schema, number, tail);
    if (yyjson_equals_str(type, "array")) return write_array(c, schema);
    if (yyjson_equals_str(type, "string")) return write_string(c, schema);
    for (size_t i = 0; i < COUNT_OF(plain); i++) {
        if (!yyjson_equals_str(type, plain[i])) continue;
        buffer_text(c->out, plain[i]);
        return NULL;
    }
    REFUSE("the schema has a 'type' that there is not");
}

static tidemill_error *write_types(struct conversion *c, yyjson_val *schema, size_t number,
                                   struct buffer *tail)
{
    yyjson_val *type = yyjson_obj_get(schema, "type"), *item;
    size_t i, n, n_objects = 0;
    if (!yyjson_is_arr(type)) return write_type(c, schema, type, number, tail);
    if (yyjson_arr_size(type) == 0) REFUSE("the schema's 'type' is an empty array");
    yyjson_arr_foreach(type, i, n, item)
    {
        if (yyjson_equals_str(item, "object") && ++n_objects > 1)
            REFUSE("the schema's 'type' has object twice");
        if (i > 0) buffer_text(c->out, " | ");
        TRY(write_type(c, schema, item, number, tail));
    }
    return NULL;
}

static bool limits_otherwise(yyjson_val *schema)
{
    static const char *const words[] = {"type",      "properties", "required",
                                        "items",     "minItems",   "maxItems",
                                        "minLength", "maxLength",  "additionalProperties"};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (yyjson_obj_get(schema, words[i]) != NULL) return true;
    return false;
}

static tidemill_error *write_schema(struct conversion *c, size_t number, struct buffer *tail)
{
    yyjson_val *schema = c->schemas[number];
    if (yyjson_is_true(schema)) {
        buffer_text(c->out, "value");
        return NULL;
    }
    if (!yyjson_is_obj(schema)) REFUSE("a part of the schema is not an object");
    TRY(check_words(schema));
    yyjson_val *constant = yyjson_obj_get(schema, "const");
    yyjson_val *choices = yyjson_obj_get(schema, "enum"), *any = yyjson_obj_get(schema, "anyOf");
    if (constant != NULL) return append_value(c->out, constant);
    if (choices != NULL) return write_choice(c, choices, false);
    if (any != NULL && limits_otherwise(schema))
        REFUSE("the schema has words beside 'anyOf' that limit values");
    if (any != NULL) return write_choice(c, any, true);
    if (yyjson_obj_get(schema, "type") != NULL) return write_types(c, schema, number, tail);
    if (yyjson_obj_get(schema, "properties") != NULL) return write_object(c, schema, number, tail);
    if (limits_otherwise(schema)) REFUSE("the schema limits values without a 'type'");
    buffer_text(c->out, "value");
    return NULL;
}

static tidemill_error *write_all(struct conversion *c)
{
    for (size_t i = 0; i < c->n; i++) {
        struct buffer tail = {0}; /* rules that rule i needs */
        buffer_printf(c->out, "s%zu ::= ", i);
        tidemill_error *error = write_schema(c, i, &tail);
        buffer_byte(c->out, '\n');
        if (error == NULL && tail.is_failed) error = error_memory();
        if (error == NULL) buffer_append(c->out, tail.data, tail.size);
        buffer_free(&tail);
        if (error != NULL) return error;
        if (c->out->is_failed) return error_memory();
        if (c->out->size > GRAMMAR_BYTES_MAX) REFUSE("the schema is too large");
    }
    return NULL;
}

tidemill_error *llama_schema_to_grammar(yyjson_val *schema, struct buffer *grammar)
{
    struct conversion c = {.out = grammar};
    size_t number;
    tidemill_error *error = NULL;
    if (schema == NULL) {
        buffer_text(grammar, "root ::= object\n");
    } else {
        buffer_text(grammar, "root ::= s0\n");
        error = add_schema(&c, schema, &number);
        if (error == NULL) error = write_all(&c);
    }
    free(c.schemas);
    buffer_text(grammar, common_rules);
    if (error == NULL && grammar->is_failed) error = error_memory();
    return error;
}

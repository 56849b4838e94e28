/* SPDX-License-Identifier: Apache-2.0 */
/* job_identity_test.c - a job goes on only as the one that was begun: whatever shapes its output
 * and is another now is named, and nothing else stands in the way. */
#include "expect.h"

#include "job/identity.h"
#include "job/options.h"
#include "simdisk.h"

#define PARTS_MAX 4

static void put(struct simdisk *disk, const char *path, const char *text)
{
    simdisk_put(disk, path, text, strlen(text));
}

/* --- comparing -------------------------------------------------------------------------------- */

struct part {
    const char *name, *value;
};

static struct identity identity_from(const struct part *parts)
{
    struct identity identity = {0};
    for (size_t i = 0; i < PARTS_MAX && parts[i].name != NULL; i++)
        expect_fine(identity_add(&identity, parts[i].value, "%s", parts[i].name), "add");
    return identity;
}

static void the_part_that_differs_is_named(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        struct part begun[PARTS_MAX], now[PARTS_MAX];
        const char *part; /* of the message; NULL: equal */
    } rows[] = {
        {"equal", {{"model m", "1"}, {"input a", "2"}}, {{"model m", "1"}, {"input a", "2"}}, NULL},
        {"both empty", {{NULL, NULL}}, {{NULL, NULL}}, NULL},
        {"another order is no difference",
         {{"model m", "1"}, {"option --post", "x"}},
         {{"option --post", "x"}, {"model m", "1"}},
         NULL},
        {"another value",
         {{"model m", "1"}, {"input a", "2"}},
         {{"model m", "1"}, {"input a", "3"}},
         "input a is not what this job was begun with (then 2, now 3)"},
        {"a value that is empty now",
         {{"option --post", "softmax"}},
         {{"option --post", ""}},
         "option --post is not what this job was begun with (then softmax, now )"},
        {"a part more",
         {{"model m", "1"}},
         {{"model m", "1"}, {"labels l", "2"}},
         "labels l is not what this job was begun with (then absent, now 2)"},
        {"a part less",
         {{"model m", "1"}, {"labels l", "2"}},
         {{"model m", "1"}},
         "labels l is not what this job was begun with (then 2, now absent)"},
        {"another name", {{"model m", "1"}}, {{"model n", "1"}}, "model n is not what"},
        {"a name that begins the same", {{"input a", "1"}}, {{"input ab", "1"}}, "input ab is not"},
        {"a sign of printf in a name", {{"input %s", "1"}}, {{"input %s", "2"}}, "input %s is not"},
        {"the first of two", {{"a", "1"}, {"b", "1"}}, {{"a", "2"}, {"b", "2"}}, "a is not what"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct identity begun = identity_from(rows[i].begun), now = identity_from(rows[i].now);
        tidemill_error *error = identity_compare(&begun, &now);
        if (rows[i].part == NULL)
            expect_fine(error, rows[i].name);
        else
            expect_error(error, ERROR_CHANGED, rows[i].part, rows[i].name);
        identity_free(&begun);
        identity_free(&now);
    }
}

/* As a file name of an old system: JSON, and so a journal, cannot hold it. */
static void a_name_that_is_not_utf8_is_the_same_after_a_restart(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    struct journal *journal;
    struct journal_state state;
    struct identity identity = {0};
    expect_fine(identity_add(&identity, "1", "input %s", "caf\xe9.jsonl"), "add");
    expect_fine(identity_add(&identity, "\xff", "option --id"), "add");
    expect_fine(journal_open(simdisk_io(disk), "out.journal", NULL, &identity, &journal), "open");
    journal_close(journal);
    expect_fine(journal_read(simdisk_io(disk), "out.journal", &state), "read");
    expect_fine(identity_compare(&state.identity, &identity), "the job cannot go on");
    journal_state_free(&state);
    identity_free(&identity);
    simdisk_free(disk);
}

/* --- of a job --------------------------------------------------------------------------------- */

/* An entry {location: name} as ONNX has it for a tensor in another file. */
#define LOCATION(length, name) "\x0a\x08location\x12" length name

static const char model_text[] =
    "model " LOCATION("\x08", "data.bin") " and " LOCATION("\x08", "data.bin")
        LOCATION("\x07", "gone.ab") LOCATION("\x0b", "../up/x.bin") " end";

static struct simdisk *new_disk(void)
{
    struct simdisk *disk = simdisk_new();
    put(disk, "m/a.onnx", model_text);
    put(disk, "m/data.bin", "weights");
    put(disk, "up/x.bin", "not ours");
    put(disk, "labels.txt", "cat\ndog\n");
    put(disk, "template.json", "{\"x\":{{x}}}");
    put(disk, "m/tokenizer.json", "{}");
    put(disk, "1.jsonl", "{\"x\":1}\n");
    put(disk, "2.jsonl", "{\"x\":2}\n");
    return disk;
}

static void set(struct job_spec *spec, const char *name, const char *value)
{
    option_clear(spec, option_find(name));
    expect_fine(option_set(spec, option_find(name), value, "x"), name);
}

/* A job on that disk with one option more; the caller frees the identity. */
static struct identity identity_of(struct simdisk *disk, const char *name, const char *value)
{
    struct job_spec spec;
    struct identity identity = {0};
    expect_fine(job_spec_init(&spec), "init");
    set(&spec, "model", "m/a.onnx");
    set(&spec, "labels", "labels.txt");
    set(&spec, "template", "template.json");
    set(&spec, "output", "out.jsonl");
    expect_fine(option_set(&spec, option_find("input"), "1.jsonl", "x"), "input");
    expect_fine(option_set(&spec, option_find("input"), "2.jsonl", "x"), "input");
    if (name != NULL) set(&spec, name, value);
    expect_fine(job_spec_check(&spec, simdisk_io(disk)), "check");
    expect_fine(identity_of_job(&spec, simdisk_io(disk), &identity), "identity");
    job_spec_free(&spec);
    return identity;
}

/* Compares a plain job with one on a disk of its own, with an option more and a file changed. */
static tidemill_error *compare(const char *name, const char *value, const char *path,
                               const char *content)
{
    struct simdisk *disk = new_disk(), *other = new_disk();
    if (path != NULL) put(other, path, content);
    struct identity begun = identity_of(disk, NULL, NULL), now = identity_of(other, name, value);
    tidemill_error *error = identity_compare(&begun, &now);
    identity_free(&begun);
    identity_free(&now);
    simdisk_free(disk);
    simdisk_free(other);
    return error;
}

static void a_file_that_changed_is_named(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *path, *content;
        const char *part; /* NULL: no difference */
    } rows[] = {
        {"nothing", NULL, NULL, NULL},
        {"the same content again", "1.jsonl", "{\"x\":1}\n", NULL},
        {"a file beside", "3.jsonl", "{}", NULL},
        {"the model", "m/a.onnx", "model 2", "model m/a.onnx is not"},
        {"the model's data", "m/data.bin", "weightz", "model data m/data.bin is not"},
        {"data that was not there", "m/gone.ab", "x", "model data m/gone.ab is not"},
        {"a file outside the model's folder", "up/x.bin", "changed", NULL},
        {"an input, one byte", "2.jsonl", "{\"x\":3}\n", "input 2.jsonl is not"},
        {"an input, longer", "1.jsonl", "{\"x\":1}\n{\"x\":2}\n", "input 1.jsonl is not"},
        {"the labels", "labels.txt", "dog\ncat\n", "labels labels.txt is not"},
        {"the template", "template.json", "{}", "template template.json is not"},
        {"the tokenizer", "m/tokenizer.json", "{ }", "tokenizer m/tokenizer.json is not"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        tidemill_error *error = compare(NULL, NULL, rows[i].path, rows[i].content);
        if (rows[i].part == NULL)
            expect_fine(error, rows[i].name);
        else
            expect_error(error, ERROR_CHANGED, rows[i].part, rows[i].name);
    }
}

/* A value that is not the default. */
static const char *other_value(const struct option *option)
{
    switch (option->type) {
    case OPTION_STRING: return "other";
    case OPTION_PATH: return "other-path";
    case OPTION_LIST:
    case OPTION_COMMAS: return "other=x";
    case OPTION_FLAG: return option->default_text != NULL ? "false" : "true";
    case OPTION_CHOICE: return strrchr(option->choices, '|') + 1;
    case OPTION_COUNT: return "7";
    case OPTION_SIZE: return "12345";
    case OPTION_DURATION: return "12345ms";
    }
    return "";
}

static void an_option_counts_if_it_shapes_the_output(void **unused)
{
    (void)unused;
    /* compared as files, or read in a form of their own by the check */
    static const char *const apart[] = {"model",     "template",      "labels",   "tokenizer",
                                        "input",     "max-errors",    "price",    "retry-errors",
                                        "output",    "max-deviation", "price-in", "price-cached",
                                        "price-out", "via",           "precision"};
    for (size_t i = 0; i < n_job_options; i++) {
        const struct option *option = &job_options[i];
        bool is_apart = false;
        for (size_t k = 0; k < COUNT_OF(apart); k++)
            is_apart |= strcmp(apart[k], option->name) == 0;
        if (is_apart) continue;
        char part[100];
        snprintf(part, sizeof part, "option --%s is not", option->name);
        tidemill_error *error = compare(option->name, other_value(option), NULL, NULL);
        if (option->shapes_output)
            expect_error(error, ERROR_CHANGED, part, option->name);
        else
            expect_fine(error, option->name);
    }
    expect_fine(compare("max-errors", "5", NULL, NULL), "max-errors");
    expect_fine(compare("price", "3", NULL, NULL), "price");
    expect_fine(compare("output", "elsewhere.jsonl", NULL, NULL), "output");
    expect_error(compare("tokenizer", "labels.txt", NULL, NULL), ERROR_CHANGED,
                 "tokenizer labels.txt is not", "another tokenizer");
    expect_error(compare("tokenizer", "none", NULL, NULL), ERROR_CHANGED,
                 "tokenizer m/tokenizer.json", "no tokenizer");
}

static void fewer_or_other_inputs_are_named(void **unused)
{
    (void)unused;
    expect_error(compare("input", "1.jsonl", NULL, NULL), ERROR_CHANGED,
                 "input 2.jsonl is not what this job was begun with (then ", "an input less");
    expect_error(compare("input", "-", NULL, NULL), ERROR_CHANGED, "input -", "standard input");
}

static void models_that_cannot_be_read_say_so(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *model;
        enum error_code code; /* OK: it can */
    } rows[] = {
        {"a model that is not there", "m/none.onnx", ERROR_MODEL_LOAD},
        {"echo is built in", "echo", ERROR_OK},
        {"echo with its options", "echo:width=4", ERROR_OK},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct simdisk *disk = new_disk();
        struct job_spec spec;
        struct identity identity = {0};
        expect_fine(job_spec_init(&spec), "init");
        set(&spec, "model", rows[i].model);
        set(&spec, "input", "1.jsonl");
        set(&spec, "output", "out.jsonl");
        expect_fine(job_spec_check(&spec, simdisk_io(disk)), "check");
        tidemill_error *error = identity_of_job(&spec, simdisk_io(disk), &identity);
        if (rows[i].code == ERROR_OK)
            expect_fine(error, rows[i].name);
        else
            expect_error(error, rows[i].code, rows[i].model, rows[i].name);
        identity_free(&identity);
        job_spec_free(&spec);
        simdisk_free(disk);
    }
}

/* A location's length that leads beyond the file, and every other cut of it. */
static void a_model_cut_anywhere_is_scanned_within_its_bounds(void **unused)
{
    (void)unused;
    for (size_t cut = 1; cut < sizeof model_text; cut++) {
        struct simdisk *disk = new_disk();
        simdisk_put(disk, "m/a.onnx", model_text, cut);
        put(disk, "m/data.bi", "not named by any model");
        struct identity identity = identity_of(disk, NULL, NULL);
        assert_true(identity.n > 3);
        for (size_t i = 0; i < identity.n; i++)
            assert_string_not_equal(identity.parts[i].name, "model data m/data.bi");
        identity_free(&identity);
        simdisk_free(disk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_part_that_differs_is_named),
        cmocka_unit_test(a_name_that_is_not_utf8_is_the_same_after_a_restart),
        cmocka_unit_test(a_file_that_changed_is_named),
        cmocka_unit_test(an_option_counts_if_it_shapes_the_output),
        cmocka_unit_test(fewer_or_other_inputs_are_named),
        cmocka_unit_test(models_that_cannot_be_read_say_so),
        cmocka_unit_test(a_model_cut_anywhere_is_scanned_within_its_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

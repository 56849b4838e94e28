/* SPDX-License-Identifier: Apache-2.0 */
/* job_yaml_test.c - a job file sets what the flags would set, and every mistake is told with its
 * line. */
#include "expect.h"

#include "job/options.h"
#include "job/spec.h"
#include "simdisk.h"

#define PATH "jobs/job.yaml"

static tidemill_error *load(struct job_spec *spec, const char *yaml, size_t size)
{
    struct simdisk *disk = simdisk_new();
    simdisk_put(disk, PATH, yaml, size);
    tidemill_error *error = job_spec_load_yaml(spec, simdisk_io(disk), PATH);
    simdisk_free(disk);
    return error;
}

static void expect_option(const struct job_spec *spec, const char *name, const char *expected,
                          const char *row)
{
    struct buffer text = {0};
    option_text(spec, option_find(name), &text);
    buffer_byte(&text, '\0');
    expect_text(text.data, expected, row);
    buffer_free(&text);
}

static void a_job_file_sets_what_it_says(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *yaml, *option, *expected;
    } rows[] = {
        {"a plain value", "model: a.onnx\n", "model", "a.onnx"},
        {"a quoted value", "model: \"a b.onnx\"\n", "model", "a b.onnx"},
        {"a value in single quotes", "model: 'a: #b.onnx'\n", "model", "a: #b.onnx"},
        {"no line end", "model: a.onnx", "model", "a.onnx"},
        {"Windows line ends", "batch: 8\r\nmodel: a.onnx\r\n", "model", "a.onnx"},
        {"a byte order mark", "\xef\xbb\xbfmodel: a.onnx\n", "model", "a.onnx"},
        {"a comment", "# job\nmodel: a.onnx # the old one\n", "model", "a.onnx"},
        {"a document's start and end", "---\nmodel: a.onnx\n...\n", "model", "a.onnx"},
        {"a number", "batch: 64\n", "batch", "64"},
        {"auto", "batch: auto\n", "batch", "auto"},
        {"a size", "memory: 64MiB\n", "memory", "67108864"},
        {"a truth", "quiet: yes\n", "quiet", "true"},
        {"a lie", "isolate: false\n", "isolate", "false"},
        {"a choice", "nonfinite: string\n", "nonfinite", "string"},
        {"a list for one value", "input: a.jsonl\n", "input", "a.jsonl"},
        {"a sequence", "input:\n  - a.jsonl\n  - b.jsonl\n", "input", "a.jsonl, b.jsonl"},
        {"a sequence in one line", "input: [a.jsonl, \"b,c.jsonl\"]\n", "input",
         "a.jsonl, b,c.jsonl"},
        {"an empty sequence", "input: []\n", "input", ""},
        {"commas", "keep: id,name\n", "keep", "id,name"},
        {"a sequence of commas", "keep: [a, \"b,c\"]\n", "keep", "a,b,c"},
        {"a mapping in braces", "{model: a.onnx, batch: 8}\n", "batch", "8"},
        {"a folded value", "post: >-\n  softmax,\n  topk:3\n", "post", "softmax, topk:3"},
        {"not named: the default stays", "model: a.onnx\n", "max-record-bytes", "16777216"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct job_spec spec;
        expect_fine(job_spec_init(&spec), "init");
        expect_fine(load(&spec, rows[i].yaml, strlen(rows[i].yaml)), rows[i].name);
        expect_option(&spec, rows[i].option, rows[i].expected, rows[i].name);
        job_spec_free(&spec);
    }
}

static void an_empty_file_sets_nothing(void **unused)
{
    (void)unused;
    static const char *const files[] = {"", "\n", "# nothing yet\n", "\n\n  # nothing\n"};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        struct job_spec spec, defaults;
        expect_fine(job_spec_init(&spec), "init");
        expect_fine(job_spec_init(&defaults), "init");
        expect_fine(load(&spec, files[i], strlen(files[i])), "an empty file");
        for (size_t k = 0; k < n_job_options; k++) {
            struct buffer text = {0};
            option_text(&defaults, &job_options[k], &text);
            buffer_byte(&text, '\0');
            expect_option(&spec, job_options[k].name, text.data, job_options[k].name);
            buffer_free(&text);
        }
        job_spec_free(&spec);
        job_spec_free(&defaults);
    }
}

static void mistakes_are_told_with_their_line(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *yaml, *part;
    } rows[] = {
        {"an unknown key", "model: a\n\nbacth: 8\n",
         ":3: unknown option 'bacth'; did you mean 'batch'?"},
        {"an unknown key like no other", "model: a\nwhatsoever: 8\n",
         ":2: unknown option 'whatsoever'"},
        {"a flag's dashes", "--model: a\n", ":1: unknown option '--model'; did you mean 'model'?"},
        {"a key twice", "batch: 8\nmodel: a\nbatch: 9\n", ":3: this option stands twice"},
        {"a list option twice", "input: a\ninput: b\n", ":2: this option stands twice"},
        {"a word for a number", "batch: many\n", ":1: batch: 'many' is not a whole number"},
        {"a number out of range", "model: a\nbatch: 70000\n", ":2: batch: 70000 is out of range"},
        {"a bad size", "memory: 5 apples\n", ":1: memory: '5 apples' is not a size"},
        {"a bad time", "timeout: soon\n", ":1: timeout: 'soon' is not a time"},
        {"a bad choice", "nonfinite: maybe\n", ":1: nonfinite: 'maybe' is none of"},
        {"a bad truth", "quiet: 2\n", ":1: quiet: '2' is not true or false"},
        {"no value for a number", "batch:\n", ":1: batch: '' is not a whole number"},
        {"a list for a single value", "model: a\nbatch: [1, 2]\n",
         ":2: this option takes one value, not a list"},
        {"a list for a path", "model:\n  - a.onnx\n", "this option takes one value, not a list"},
        {"a list inside a list", "input:\n  - [a, b]\n",
         ":2: expected a value or a list of values"},
        {"a mapping in a list", "input:\n  - a\n  - b: c\n", ":3: expected a value"},
        {"a nested mapping", "model:\n  path: a.onnx\n", ":2: expected a value"},
        {"a key that is a list", "? [a, b]\n: c\n", ":1: expected a name before the colon"},
        {"an alias", "model: &m a.onnx\noutput: *m\n", ":2: expected a value"},
        {"a sequence at the top", "- model\n", ":1: a job file is a mapping"},
        {"a word at the top", "model\n", ":1: a job file is a mapping"},
        {"not YAML: a tab", "model: a\n\tbatch: 8\n", ":2: not valid YAML"},
        {"not YAML: an open quote", "model: \"a\nbatch: 8\n", "not valid YAML"},
        {"not YAML: an open bracket", "input: [a, b\n", "not valid YAML"},
        {"not UTF-8", "model: \xff\xfe\n", "not valid YAML"},
        {"a value in the list is bad", "keep: a\nbatch: 8\ninput: [a]\nretry-errors: [true]\n",
         ":4: this option takes one value"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct job_spec spec;
        expect_fine(job_spec_init(&spec), "init");
        tidemill_error *error = load(&spec, rows[i].yaml, strlen(rows[i].yaml));
        if (error != NULL && strncmp(error_message(error), PATH ":", strlen(PATH ":")) != 0)
            fail_msg("%s: which file? %s", rows[i].name, error_message(error));
        expect_error(error, ERROR_USAGE, rows[i].part, rows[i].name);
        job_spec_free(&spec);
    }
}

static void flags_come_after_the_file(void **unused)
{
    (void)unused;
    struct job_spec spec;
    static const char yaml[] = "batch: 8\ninput: [a, b]\nmodel: a.onnx\n";
    expect_fine(job_spec_init(&spec), "init");
    expect_fine(load(&spec, yaml, sizeof yaml - 1), "load");
    option_clear(&spec, option_find("input"));
    expect_fine(option_set(&spec, option_find("input"), "c", "--input"), "input");
    expect_fine(option_set(&spec, option_find("batch"), "9", "--batch"), "batch");
    expect_option(&spec, "input", "c", "a flag's list is added to the file's");
    expect_option(&spec, "batch", "9", "the file wins over the flag");
    expect_option(&spec, "model", "a.onnx", "the flags drop the file");
    job_spec_free(&spec);
}

static void files_that_cannot_be_read_are_named(void **unused)
{
    (void)unused;
    struct job_spec spec;
    struct simdisk *disk = simdisk_new();
    size_t size = ((size_t)1 << 20) + 1;
    char *large = malloc(size);
    assert_non_null(large);
    memset(large, '#', size);
    simdisk_put(disk, "large.yaml", large, size);
    expect_fine(job_spec_init(&spec), "init");
    expect_error(job_spec_load_yaml(&spec, simdisk_io(disk), "missing.yaml"), ERROR_IO,
                 "missing.yaml", "missing");
    expect_error(job_spec_load_yaml(&spec, simdisk_io(disk), "large.yaml"), ERROR_IO, "large.yaml",
                 "more than a job file can need");
    job_spec_free(&spec);
    simdisk_free(disk);
    free(large);
}

/* Cut, changed and doubled job files: an error or none, but never a crash, a leak or a hang. */
static void any_bytes_are_survived(void **unused)
{
    (void)unused;
    static const char seed_file[] =
        "model: \"a.onnx\"\ninput:\n  - a.jsonl\n  - 'b'\nkeep: [x, y]\n"
        "batch: 64 # c\nmemory: 64MiB\nquiet: yes\n";
    uint64_t state = random_seed(__func__);
    for (int round = 0; round < 3000; round++) {
        char text[sizeof seed_file];
        struct job_spec spec;
        memcpy(text, seed_file, sizeof seed_file);
        size_t size =
            random_below(&state, 3) == 0 ? random_below(&state, sizeof text) : sizeof text - 1;
        for (uint64_t changes = random_below(&state, 4); changes > 0 && size > 0; changes--) {
            static const char odd[] = "\n\t :[]{}-&*!|>'\"%@`#?,~\0\x80\xff";
            text[random_below(&state, size)] = odd[random_below(&state, sizeof odd - 1)];
        }
        expect_fine(job_spec_init(&spec), "init");
        error_free(load(&spec, text, size));
        job_spec_free(&spec);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_file_sets_what_it_says),
        cmocka_unit_test(an_empty_file_sets_nothing),
        cmocka_unit_test(mistakes_are_told_with_their_line),
        cmocka_unit_test(flags_come_after_the_file),
        cmocka_unit_test(files_that_cannot_be_read_are_named),
        cmocka_unit_test(any_bytes_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

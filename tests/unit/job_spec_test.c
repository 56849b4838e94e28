/* SPDX-License-Identifier: Apache-2.0 */
/* job_spec_test.c - a job that cannot be right is refused before anything is touched, with a
 * sentence that says what to do; one that is right gets its paths and limits worked out. */
#include "expect.h"

#include "io/io.h"
#include "job/options.h"
#include "job/spec.h"
#include "tempdir.h"

#include <math.h>

#define OPTIONS_MAX 6

struct setting {
    const char *name, *value; /* "@x": x in the test's folder */
};

static struct tempdir folder;

static int make_folder(void **unused)
{
    (void)unused;
    static const char *const files[] = {"a.jsonl", "b.jsonl", "c.csv", "[1].jsonl", "m.onnx"};
    tempdir_open(&folder);
    for (size_t i = 0; i < COUNT_OF(files); i++)
        tempdir_write(tempdir_path(&folder, files[i]), "x", 1);
    if (mkdir(tempdir_path(&folder, "dir"), 0777) != 0) abort();
    if (symlink("a.jsonl", tempdir_path(&folder, "link")) != 0) abort();
    return 0;
}

static int remove_folder(void **unused)
{
    (void)unused;
    tempdir_close(&folder);
    return 0;
}

static const char *value_of(const struct setting *setting)
{
    return setting->value[0] == '@' ? tempdir_path(&folder, setting->value + 1) : setting->value;
}

/* Defaults and then the settings; the caller frees the spec. */
static void fill(struct job_spec *spec, const struct setting *settings, size_t n)
{
    expect_fine(job_spec_init(spec), "init");
    for (size_t i = 0; i < n && settings[i].name != NULL; i++)
        expect_fine(option_set(spec, option_find(settings[i].name), value_of(&settings[i]), "x"),
                    settings[i].name);
}

/* A sound job and one more setting. */
static void fill_sound(struct job_spec *spec, const char *name, const char *value)
{
    struct setting settings[] = {
        {"model", "@m.onnx"}, {"input", "@a.jsonl"}, {"output", "@out.jsonl"}, {name, value}};
    fill(spec, settings, COUNT_OF(settings));
}

static void jobs_that_cannot_be_right_are_refused(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        struct setting settings[OPTIONS_MAX];
        enum error_code code;
        const char *part;
    } rows[] = {
        {"no model", {{"input", "@a.jsonl"}, {"output", "@o"}}, ERROR_USAGE, "--model FILE"},
        {"an empty model",
         {{"model", ""}, {"input", "@a.jsonl"}, {"output", "@o"}},
         ERROR_USAGE,
         "--model FILE"},
        {"no input", {{"model", "m"}, {"output", "@o"}}, ERROR_USAGE, "--input FILE"},
        {"no output", {{"model", "m"}, {"input", "@a.jsonl"}}, ERROR_USAGE, "--output FILE"},
        {"an empty output",
         {{"model", "m"}, {"input", "@a.jsonl"}, {"output", ""}},
         ERROR_USAGE,
         "--output FILE"},
        {"a pattern without a file",
         {{"model", "m"}, {"input", "@z*.jsonl"}, {"output", "@o"}},
         ERROR_INPUT,
         "no file matches"},
        {"standard input twice",
         {{"model", "m"}, {"input", "-"}, {"input", "-"}, {"output", "@o"}},
         ERROR_USAGE,
         "only once"},
        {"a folder as output",
         {{"model", "m"}, {"input", "@a.jsonl"}, {"output", "@dir"}},
         ERROR_USAGE,
         "is a directory; name a file in it"},
        {"a folder as input",
         {{"model", "m"}, {"input", "@dir"}, {"output", "@o"}},
         ERROR_INPUT,
         "is a directory; name files"},
        {"a device as output",
         {{"model", "m"}, {"input", "@a.jsonl"}, {"output", "/dev/null"}},
         ERROR_USAGE,
         "is not a plain file"},
        {"one file for output and errors",
         {{"model", "m"}, {"input", "@a.jsonl"}, {"output", "@o"}, {"errors", "@o"}},
         ERROR_USAGE,
         "give them two names"},
        {"the input as output",
         {{"model", "m"}, {"input", "@a.jsonl"}, {"output", "@a.jsonl"}},
         ERROR_USAGE,
         "is an input too"},
        {"the input under another name as output",
         {{"model", "m"}, {"input", "@a.jsonl"}, {"output", "@dir/../a.jsonl"}},
         ERROR_USAGE,
         "--output"},
        {"a link to the input as output",
         {{"model", "m"}, {"input", "@a.jsonl"}, {"output", "@link"}},
         ERROR_USAGE,
         "is an input too"},
        {"an input as errors",
         {{"model", "m"}, {"input", "@a.jsonl"}, {"output", "@o"}, {"errors", "@a.jsonl"}},
         ERROR_USAGE,
         "is an input too"},
        {"an input of a list as summary",
         {{"model", "m"},
          {"input", "@c.csv"},
          {"input", "@a.jsonl"},
          {"output", "@o"},
          {"summary", "@a.jsonl"}},
         ERROR_USAGE,
         "is an input too"},
        {"an input that the default name of errors hits",
         {{"model", "m"}, {"input", "@o.errors.jsonl"}, {"output", "@o"}},
         ERROR_USAGE,
         "is an input too"},
        {"the model as output",
         {{"model", "@m.onnx"}, {"input", "@a.jsonl"}, {"output", "@m.onnx"}},
         ERROR_USAGE,
         "is what the job reads"},
        {"one file for output and summary",
         {{"model", "m"}, {"input", "@a.jsonl"}, {"output", "@o"}, {"summary", "@o"}},
         ERROR_USAGE,
         "give them two names"},
        {"a retry of what went to standard output",
         {{"model", "m"}, {"output", "-"}, {"retry-errors", "true"}},
         ERROR_USAGE,
         "--retry-errors needs the output file"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct job_spec spec;
        fill(&spec, rows[i].settings, OPTIONS_MAX);
        expect_error(job_spec_check(&spec, &io_local), rows[i].code, rows[i].part, rows[i].name);
        job_spec_free(&spec);
    }
    assert_false(io_exists(&io_local, tempdir_path(&folder, "o"))); /* nothing was touched */
}

static void inputs_are_expanded_in_order(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        struct setting inputs[OPTIONS_MAX];
        const char *expected[OPTIONS_MAX];
    } rows[] = {
        {"a plain name", {{"input", "@a.jsonl"}}, {"@a.jsonl"}},
        {"a name that is not there yet: opening it says so", {{"input", "@later"}}, {"@later"}},
        {"a pattern is sorted", {{"input", "@?.jsonl"}}, {"@a.jsonl", "@b.jsonl"}},
        {"the order given stays",
         {{"input", "@c.csv"}, {"input", "@?.jsonl"}},
         {"@c.csv", "@a.jsonl", "@b.jsonl"}},
        {"brackets in a real name are no pattern", {{"input", "@[1].jsonl"}}, {"@[1].jsonl"}},
        {"brackets in a pattern", {{"input", "@[b-z].jsonl"}}, {"@b.jsonl"}},
        {"standard input", {{"input", "-"}}, {"-"}},
        {"a file twice is read twice",
         {{"input", "@a.jsonl"}, {"input", "@a.jsonl"}},
         {"@a.jsonl", "@a.jsonl"}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct job_spec spec;
        size_t n = 0;
        fill(&spec, rows[i].inputs, OPTIONS_MAX);
        expect_fine(option_set(&spec, option_find("model"), "m", "x"), "model");
        expect_fine(option_set(&spec, option_find("output"), "-", "x"), "output");
        for (int twice = 0; twice < 2; twice++) /* a spec may be checked again */
            expect_fine(job_spec_check(&spec, &io_local), rows[i].name);
        while (n < OPTIONS_MAX && rows[i].expected[n] != NULL) n++;
        if (spec.input_paths.n != n) fail_msg("%s: %zu paths", rows[i].name, spec.input_paths.n);
        for (size_t k = 0; k < n; k++)
            expect_text(spec.input_paths.items[k],
                        value_of(&(struct setting){"input", rows[i].expected[k]}), rows[i].name);
        job_spec_free(&spec);
    }
}

/* Or the second run of such a command would read what the first one wrote. */
static void a_pattern_leaves_out_what_the_job_writes(void **unused)
{
    (void)unused;
    struct job_spec spec;
    static const struct setting settings[] = {
        {"model", "m"}, {"input", "@?.*"}, {"output", "@b.jsonl"}, {"errors", "@c.csv"}};
    fill(&spec, settings, COUNT_OF(settings));
    expect_fine(job_spec_check(&spec, &io_local), "check");
    assert_int_equal(spec.input_paths.n, 2);
    expect_text(spec.input_paths.items[0], tempdir_path(&folder, "a.jsonl"), "first");
    expect_text(spec.input_paths.items[1], tempdir_path(&folder, "m.onnx"), "second");
    job_spec_free(&spec);
}

static void errors_go_beside_the_output_unless_told(void **unused)
{
    (void)unused;
    struct job_spec spec;
    char expected[300];
    fill_sound(&spec, "batch", "8");
    expect_fine(job_spec_check(&spec, &io_local), "check");
    snprintf(expected, sizeof expected, "%s.errors.jsonl", spec.output);
    expect_text(spec.errors, expected, "default");
    assert_false(spec.to_stdout);
    job_spec_free(&spec);

    fill_sound(&spec, "errors", "elsewhere.jsonl");
    expect_fine(job_spec_check(&spec, &io_local), "check");
    expect_text(spec.errors, "elsewhere.jsonl", "given");
    job_spec_free(&spec);

    fill_sound(&spec, "output", "-");
    expect_fine(job_spec_check(&spec, &io_local), "check");
    assert_true(spec.to_stdout);
    job_spec_free(&spec);
}

static void a_limit_of_errors_is_a_count_or_a_share(void **unused)
{
    (void)unused;
    static const struct {
        const char *text;
        uint64_t count;
        double share;
        bool is_refused;
    } rows[] = {
        {NULL, UINT64_MAX, INFINITY, false},
        {"0", 0, INFINITY, false},
        {"17", 17, INFINITY, false},
        {"1000000000000", 1000000000000, INFINITY, false},
        {"0%", UINT64_MAX, 0, false},
        {"1%", UINT64_MAX, 0.01, false},
        {"0.5%", UINT64_MAX, 0.005, false},
        {"100%", UINT64_MAX, 1, false},
        {"100.5%", 0, 0, true},
        {"-1", 0, 0, true},
        {"-1%", 0, 0, true},
        {"1.5", 0, 0, true},
        {"", 0, 0, true},
        {"%", 0, 0, true},
        {"many", 0, 0, true},
        {"1 %", 0, 0, true},
        {"1%%", 0, 0, true},
        {"nan", 0, 0, true},
        {"nan%", 0, 0, true},
        {"inf", 0, 0, true},
        {"1e30", 0, 0, true},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct job_spec spec;
        const char *row = rows[i].text == NULL ? "not given" : rows[i].text;
        fill_sound(&spec, rows[i].text == NULL ? NULL : "max-errors", rows[i].text);
        tidemill_error *error = job_spec_check(&spec, &io_local);
        if (rows[i].is_refused) {
            expect_error(error, ERROR_USAGE, "--max-errors: '", row);
        } else {
            expect_fine(error, row);
            if (spec.max_errors_count != rows[i].count) fail_msg("%s: the count", row);
            if (rows[i].share > 1 ? !(spec.max_errors_share > 1)
                                  : fabs(spec.max_errors_share - rows[i].share) > 1e-12)
                fail_msg("%s: the share", row);
        }
        job_spec_free(&spec);
    }
}

static void a_price_is_dollars_or_a_machine(void **unused)
{
    (void)unused;
    static const struct {
        const char *text;
        double expected; /* negative: refused */
    } rows[] = {
        {NULL, 0},           {"0", 0},
        {"0.085", 0.085},    {"3", 3},
        {"1e-3", 0.001},     {"c6i.large", 0.085},
        {"C5.Large", 0.085}, {"", -1},
        {"c6i.larg", -1},    {"-1", -1},
        {"0.085 USD", -1},   {"$3", -1},
        {"nan", -1},         {"inf", -1},
        {"1e6", -1},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct job_spec spec;
        const char *row = rows[i].text == NULL ? "not given" : rows[i].text;
        fill_sound(&spec, rows[i].text == NULL ? NULL : "price", rows[i].text);
        tidemill_error *error = job_spec_check(&spec, &io_local);
        if (rows[i].expected < 0) {
            expect_error(error, ERROR_USAGE, "'tidemill prices' lists them", row);
        } else {
            expect_fine(error, row);
            if (fabs(spec.price_usd_hour - rows[i].expected) > 1e-12) fail_msg("%s", row);
        }
        job_spec_free(&spec);
    }
}

static void all_fields_are_kept_only_by_that_word_alone(void **unused)
{
    (void)unused;
    static const struct {
        const char *text;
        bool is_all;
    } rows[] = {{"all", true}, {"all,id", false}, {"id", false}, {"", false}, {"ALL", false}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct job_spec spec;
        fill_sound(&spec, "keep", rows[i].text);
        expect_fine(job_spec_check(&spec, &io_local), rows[i].text);
        if (spec.keep_all != rows[i].is_all) fail_msg("--keep %s", rows[i].text);
        job_spec_free(&spec);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_that_cannot_be_right_are_refused),
        cmocka_unit_test(inputs_are_expanded_in_order),
        cmocka_unit_test(a_pattern_leaves_out_what_the_job_writes),
        cmocka_unit_test(errors_go_beside_the_output_unless_told),
        cmocka_unit_test(a_limit_of_errors_is_a_count_or_a_share),
        cmocka_unit_test(a_price_is_dollars_or_a_machine),
        cmocka_unit_test(all_fields_are_kept_only_by_that_word_alone),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

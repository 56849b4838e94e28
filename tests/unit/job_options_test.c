/* SPDX-License-Identifier: Apache-2.0 */
/* job_options_test.c - every option of the table takes what its help promises, says its value in a
 * form that it takes again, and names who gave it a bad one. */
#include "expect.h"

#include "job/options.h"
#include "job/spec.h"

#define MIB ((int64_t)1 << 20)
#define EDGE_VALUES 6

static const char *text_of(const struct job_spec *spec, const struct option *option)
{
    static struct buffer text; /* kept: valid until the next call */
    buffer_reset(&text, SIZE_MAX);
    option_text(spec, option, &text);
    buffer_byte(&text, '\0');
    assert_false(text.is_failed);
    return text.data;
}

static int64_t number_of(const struct job_spec *spec, const struct option *option)
{
    int64_t value;
    memcpy(&value, (const char *)spec + option->offset, sizeof value);
    return value;
}

static void set(struct job_spec *spec, const char *name, const char *text)
{
    const struct option *option = option_find(name);
    if (option == NULL) fail_msg("there is no option %s", name);
    expect_fine(option_set(spec, option, text, name), name);
}

/* --- the table -------------------------------------------------------------------------------- */

static bool is_list(const struct option *option)
{
    return option->type == OPTION_LIST || option->type == OPTION_COMMAS;
}

static bool is_number(const struct option *option)
{
    return option->type == OPTION_COUNT || option->type == OPTION_SIZE ||
           option->type == OPTION_DURATION;
}

static void the_table_is_sound(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < n_job_options; i++) {
        const struct option *option = &job_options[i];
        const char *name = option->name;
        assert_ptr_equal(option_find(name), option); /* no name stands twice */
        assert_true(strspn(name, "abcdefghijklmnopqrstuvwxyz-") == strlen(name));
        assert_true(strncmp(name, "no-", 3) != 0); /* that is how a flag is turned off */
        if (option->help == NULL || option->help[0] == '\0' ||
            option->help[strlen(option->help) - 1] == '.')
            fail_msg("%s: help is one sentence without a full stop", name);
        if (option->group == NULL) fail_msg("%s has no group", name);
        if ((option->choices != NULL) != (option->type == OPTION_CHOICE))
            fail_msg("%s: choices are for a CHOICE", name);
        if (option->type != OPTION_FLAG && option->value == NULL && option->choices == NULL)
            fail_msg("%s has no placeholder", name);
        if (option->minimum > option->maximum) fail_msg("%s: its range is empty", name);
        if (option->offset >= sizeof(struct job_spec)) fail_msg("%s: offset", name);
        for (size_t k = 0; k < i; k++) {
            if (job_options[k].offset == option->offset)
                fail_msg("%s and %s are one member", name, job_options[k].name);
            if (option->short_name != 0 && job_options[k].short_name == option->short_name)
                fail_msg("-%c is both %s and %s", option->short_name, name, job_options[k].name);
        }
    }
}

static void defaults_are_those_of_the_help(void **unused)
{
    (void)unused;
    struct job_spec spec;
    expect_fine(job_spec_init(&spec), "init");
    for (size_t i = 0; i < n_job_options; i++) {
        const struct option *option = &job_options[i];
        struct job_spec one = {0};
        if (option->default_text != NULL)
            expect_fine(option_set(&one, option, option->default_text, "x"), option->name);
        char *expected = strdup(text_of(&one, option));
        expect_text(text_of(&spec, option), expected, option->name);
        free(expected);
        job_spec_free(&one);
    }
    assert_int_equal(spec.timeout_ms, 600000);
    assert_int_equal(spec.record_bytes_max, 16 * MIB);
    assert_int_equal(spec.checkpoint_ms, 5000);
    assert_int_equal(spec.batch, 0);
    assert_true(spec.is_isolated);
    assert_string_equal(spec.provider, "cpu");
    assert_null(spec.output);
    job_spec_free(&spec);
}

/* --- round trips ------------------------------------------------------------------------------ */

/* Texts that the option takes; at most EDGE_VALUES. */
static size_t values_of(const struct option *option, char values[EDGE_VALUES][64])
{
    size_t n = 0;
    switch (option->type) {
    case OPTION_STRING:
    case OPTION_PATH:
    case OPTION_LIST: {
        static const char *const texts[] = {"x", "a b/\"c\"=%s", "x=p0..p63", "-", "gr\xc3\xbcn"};
        for (size_t i = 0; i < COUNT_OF(texts); i++) snprintf(values[n++], 64, "%s", texts[i]);
        return n;
    }
    case OPTION_COMMAS: {
        static const char *const texts[] = {"x", "x,y", "probability,label,a/b", "all"};
        for (size_t i = 0; i < COUNT_OF(texts); i++) snprintf(values[n++], 64, "%s", texts[i]);
        return n;
    }
    case OPTION_FLAG:
        snprintf(values[n++], 64, "true");
        snprintf(values[n++], 64, "false");
        return n;
    case OPTION_CHOICE:
        for (const char *p = option->choices; p != NULL && n < EDGE_VALUES;) {
            size_t size = strcspn(p, "|");
            snprintf(values[n++], 64, "%.*s", (int)size, p);
            p = p[size] == '|' ? p + size + 1 : NULL;
        }
        return n;
    default: break;
    }
    const char *unit = option->type == OPTION_DURATION ? "ms" : "";
    bool is_checked = option->minimum != 0 || option->maximum != 0;
    int64_t least = is_checked ? option->minimum : 0;
    int64_t most = is_checked ? option->maximum : (int64_t)1 << 50;
    if (option->has_auto) snprintf(values[n++], 64, "auto");
    snprintf(values[n++], 64, "%lld%s", (long long)least, unit);
    snprintf(values[n++], 64, "%lld%s", (long long)least + 1, unit);
    snprintf(values[n++], 64, "%lld%s", (long long)most, unit);
    snprintf(values[n++], 64, "%lld%s", (long long)(least + (most - least) / 3), unit);
    return n;
}

static void what_an_option_says_it_takes_again(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < n_job_options; i++) {
        const struct option *option = &job_options[i];
        char values[EDGE_VALUES][64];
        size_t n = values_of(option, values);
        assert_true(n > 0);
        for (size_t v = 0; v < n; v++) {
            struct job_spec first = {0}, second = {0};
            expect_fine(option_set(&first, option, values[v], "x"), option->name);
            char *text = strdup(text_of(&first, option));
            assert_non_null(text);
            expect_fine(option_set(&second, option, text, "x"), option->name);
            expect_text(text_of(&second, option), text, option->name);
            if (is_number(option) && number_of(&first, option) != number_of(&second, option))
                fail_msg("%s: %s becomes %s and then %lld", option->name, values[v], text,
                         (long long)number_of(&second, option));
            if (is_list(option)) {
                const struct string_list *a = (void *)((char *)&first + option->offset);
                const struct string_list *b = (void *)((char *)&second + option->offset);
                assert_int_equal(a->n, b->n);
            }
            free(text);
            job_spec_free(&first);
            job_spec_free(&second);
        }
    }
}

static void different_values_have_different_texts(void **unused)
{
    (void)unused;
    /* or a job that was begun with another value would be taken for the same one */
    for (size_t i = 0; i < n_job_options; i++) {
        const struct option *option = &job_options[i];
        char values[EDGE_VALUES][64], *texts[EDGE_VALUES];
        size_t n = values_of(option, values);
        for (size_t v = 0; v < n; v++) {
            struct job_spec spec = {0};
            expect_fine(option_set(&spec, option, values[v], "x"), option->name);
            texts[v] = strdup(text_of(&spec, option));
            for (size_t k = 0; k < v; k++)
                if (strcmp(texts[k], texts[v]) == 0 && strcmp(values[k], values[v]) != 0)
                    fail_msg("%s: %s and %s", option->name, values[k], values[v]);
            job_spec_free(&spec);
        }
        for (size_t v = 0; v < n; v++) free(texts[v]);
    }
}

static void a_later_value_replaces_an_earlier_one(void **unused)
{
    (void)unused;
    struct job_spec spec = {0};
    set(&spec, "model", "a.onnx");
    set(&spec, "model", "b.onnx");
    assert_string_equal(spec.model, "b.onnx");
    set(&spec, "batch", "8");
    set(&spec, "batch", "auto");
    assert_int_equal(spec.batch, 0);
    job_spec_free(&spec);
    assert_null(spec.model); /* and an emptied one can be freed again */
    job_spec_free(&spec);
}

/* --- lists ------------------------------------------------------------------------------------ */

static void lists_grow_and_commas_split_only_where_they_should(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *option;
        const char *given[3];
        const char *expected[5];
    } rows[] = {
        {"a repeated flag replaces", "input", {"a", "b", "c"}, {"a", "b", "c"}},
        {"a file name is split at its comma", "input", {"a,b.jsonl"}, {"a,b.jsonl"}},
        {"a map's list of fields is split", "map", {"x=a,b,c"}, {"x=a,b,c"}},
        {"fields are not split", "keep", {"a,b", "c"}, {"a", "b", "c"}},
        {"an empty field is kept", "keep", {",a,,b,"}, {"a", "b"}},
        {"nothing makes an empty field", "keep", {""}, {NULL}},
        {"output names lose their order", "output-name", {"z,a"}, {"z", "a"}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct job_spec spec = {0};
        const struct option *option = option_find(rows[i].option);
        for (size_t g = 0; g < 3 && rows[i].given[g] != NULL; g++)
            set(&spec, rows[i].option, rows[i].given[g]);
        const struct string_list *list = (void *)((char *)&spec + option->offset);
        size_t n = 0;
        while (n < 5 && rows[i].expected[n] != NULL) n++;
        if (list->n != n) fail_msg("%s: %zu items", rows[i].name, list->n);
        for (size_t k = 0; k < n; k++)
            expect_text(list->items[k], rows[i].expected[k], rows[i].name);
        option_clear(&spec, option);
        assert_int_equal(list->n, 0);
        assert_null(list->items);
        job_spec_free(&spec);
    }
}

static void clearing_leaves_single_values_alone(void **unused)
{
    (void)unused;
    struct job_spec spec = {0};
    set(&spec, "model", "a.onnx");
    set(&spec, "batch", "8");
    option_clear(&spec, option_find("model"));
    option_clear(&spec, option_find("batch"));
    assert_string_equal(spec.model, "a.onnx");
    assert_int_equal(spec.batch, 8);
    job_spec_free(&spec);
}

/* --- units ------------------------------------------------------------------------------------ */

static void units_are_what_people_mean(void **unused)
{
    (void)unused;
    static const struct {
        const char *option, *text;
        int64_t expected;
    } rows[] = {
        {"memory", "0", 0},
        {"memory", "500", 500},
        {"memory", "500B", 500},
        {"memory", "64K", 65536},
        {"memory", "64KB", 64000},
        {"memory", "64KiB", 65536},
        {"memory", "64MiB", 64 * MIB},
        {"memory", "64mib", 64 * MIB},
        {"memory", "64 MiB", 64 * MIB},
        {"memory", "20MB", 20000000},
        {"memory", "1.5GB", 1500000000},
        {"memory", "1.5GiB", 1536 * MIB},
        {"memory", "2G", 2048 * MIB},
        {"memory", ".5K", 512},
        {"memory", "9007199254740993", 9007199254740992}, /* a double's precision is enough */
        {"timeout", "5s", 5000},
        {"timeout", "5", 5000},
        {"timeout", "250ms", 250},
        {"timeout", "2m", 120000},
        {"timeout", "2min", 120000},
        {"timeout", "1h", 3600000},
        {"timeout", "1.5s", 1500},
        {"timeout", "0.1", 100},
        {"timeout", "0", 0},
        {"timeout", "5 S", 5000},
        {"batch", "1", 1},
        {"batch", "65536", 65536},
        {"batch", "auto", 0},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct job_spec spec = {0};
        set(&spec, rows[i].option, rows[i].text);
        int64_t found = number_of(&spec, option_find(rows[i].option));
        if (found != rows[i].expected)
            fail_msg("--%s %s is %lld", rows[i].option, rows[i].text, (long long)found);
        job_spec_free(&spec);
    }
}

static void bad_values_are_refused_and_change_nothing(void **unused)
{
    (void)unused;
    static const struct {
        const char *option, *text, *part;
    } rows[] = {
        {"memory", "", "is not a size"},
        {"memory", "x", "is not a size"},
        {"memory", "-1", "is not a size"},
        {"memory", "+1", "is not a size"},
        {"memory", "64XB", "is not a size"},
        {"memory", "64 MiB!", "is not a size"},
        {"memory", "nan", "is not a size"},
        {"memory", "inf", "is not a size"},
        {"memory", "1e300GiB", "is not a size"},
        {"memory", "99999999999GiB", "is not a size"},
        {"memory", ".", "is not a size"},
        {"memory", "64s", "is not a size"},
        {"max-record-bytes", "15", "out of range (16 to 4294967296 bytes)"},
        {"max-record-bytes", "5GiB", "out of range"},
        {"timeout", "soon", "is not a time"},
        {"timeout", "5MB", "is not a time"},
        {"timeout", "-5s", "is not a time"},
        {"checkpoint-every", "9ms", "out of range (10 to 86400000 ms)"},
        {"checkpoint-every", "25h", "out of range"},
        {"batch", "0", "out of range (1 to 65536)"},
        {"batch", "-1", "out of range"},
        {"batch", "65537", "out of range"},
        {"batch", "1.5", "is not a whole number or 'auto'"},
        {"batch", "8 rows", "is not a whole number or 'auto'"},
        {"batch", "", "is not a whole number or 'auto'"},
        {"batch", "AUTO", "is not a whole number or 'auto'"},
        {"batch", "99999999999999999999", "is not a whole number or 'auto'"},
        {"quiet", "maybe", "is not true or false"},
        {"quiet", "", "is not true or false"},
        {"quiet", "TRUE", "is not true or false"},
        {"nonfinite", "", "is none of error|null|string"},
        {"nonfinite", "nul", "is none of error|null|string"},
        {"nonfinite", "null|string", "is none of error|null|string"},
        {"input-format", "JSONL", "is none of auto|jsonl|csv|npy|npz"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct job_spec spec;
        const struct option *option = option_find(rows[i].option);
        expect_fine(job_spec_init(&spec), "init");
        char *before = strdup(text_of(&spec, option)), row[100], origin[100];
        snprintf(row, sizeof row, "--%s '%s'", rows[i].option, rows[i].text);
        tidemill_error *error = option_set(&spec, option, rows[i].text, "job.yaml:4");
        snprintf(origin, sizeof origin, "job.yaml:4: ");
        if (error != NULL && strncmp(error_message(error), origin, strlen(origin)) != 0)
            fail_msg("%s: who gave it? %s", row, error_message(error));
        expect_error(error, ERROR_USAGE, rows[i].part, row);
        expect_text(text_of(&spec, option), before, row);
        free(before);
        job_spec_free(&spec);
    }
}

static void flags_take_the_usual_words(void **unused)
{
    (void)unused;
    static const char *const truths[] = {"true", "yes", "on", "1"};
    static const char *const lies[] = {"false", "no", "off", "0"};
    struct job_spec spec = {0};
    for (size_t i = 0; i < COUNT_OF(truths); i++) {
        set(&spec, "quiet", truths[i]);
        assert_true(spec.is_quiet);
        set(&spec, "quiet", lies[i]);
        assert_false(spec.is_quiet);
    }
    job_spec_free(&spec);
}

/* --- mistyped names --------------------------------------------------------------------------- */

static void mistyped_names_get_the_one_that_was_meant(void **unused)
{
    (void)unused;
    static const struct {
        const char *typed, *meant;
    } rows[] = {
        {"modle", "model"},
        {"bach", "batch"},
        {"ouput", "output"},
        {"inputs", "input"},
        {"checkpoint", NULL},
        {"max_errors", "max-errors"},
        {"retry-error", "retry-errors"},
        {"Batch", "batch"},
        {"nonfinit", "nonfinite"},
        {"", NULL},
        {"x", NULL},
        {"zzzzzzzz", NULL},
        {"wholly-different-thing", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const char *found = option_suggest(rows[i].typed);
        if ((found == NULL) != (rows[i].meant == NULL))
            fail_msg("'%s': %s", rows[i].typed, found == NULL ? "nothing" : found);
        if (found != NULL) expect_text(found, rows[i].meant, rows[i].typed);
    }
    for (size_t i = 0; i < n_job_options; i++)
        assert_string_equal(option_suggest(job_options[i].name), job_options[i].name);
}

static void names_of_any_length_are_looked_up(void **unused)
{
    (void)unused;
    size_t size = 100000;
    char *name = malloc(size + 1);
    assert_non_null(name);
    memset(name, 'a', size);
    name[size] = '\0';
    assert_null(option_find(name));
    assert_null(option_suggest(name));
    free(name);
    assert_null(option_find(""));
    assert_null(option_find("mode"));
    assert_null(option_find("model "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_sound),
        cmocka_unit_test(defaults_are_those_of_the_help),
        cmocka_unit_test(what_an_option_says_it_takes_again),
        cmocka_unit_test(different_values_have_different_texts),
        cmocka_unit_test(a_later_value_replaces_an_earlier_one),
        cmocka_unit_test(lists_grow_and_commas_split_only_where_they_should),
        cmocka_unit_test(clearing_leaves_single_values_alone),
        cmocka_unit_test(units_are_what_people_mean),
        cmocka_unit_test(bad_values_are_refused_and_change_nothing),
        cmocka_unit_test(flags_take_the_usual_words),
        cmocka_unit_test(mistyped_names_get_the_one_that_was_meant),
        cmocka_unit_test(names_of_any_length_are_looked_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* llama_grammar.c - one walk over a grammar's text, adding up what its repetitions make of it. llama.cpp
 * writes each repetition out: x{1000} are a thousand rules. A text of a few bytes could fill the memory.
 *
 * Counted: for each repetition, how often it repeats times the size of what is repeated, which is 1, and 1
 * more for every 16 characters of a text in quotes or a class; of parentheses, what the repetitions in
 * them make, so that nested ones multiply. A rule's name is 1: llama.cpp does not copy what it stands for. */
#include "runtime/llama_grammar.h"

#define CHARACTERS_A_COPY 16 /* take as much memory as a rule does */

#define REFUSE(...) return error_new(ERROR_MODEL_ERROR, __VA_ARGS__)

struct walk {
    const char *at;
    uint64_t copies; /* so far */
    uint64_t item;   /* size of what a repetition would repeat; 0: there is nothing */
    size_t depth;    /* of parentheses */
    uint64_t outside[LLAMA_GRAMMAR_DEPTH_MAX]; /* copies before each that is open */
};

static void skip_to(struct walk *w, const char *ends)
{
    w->at += strcspn(w->at, ends);
}

static void skip_space(struct walk *w)
{
    for (w->at += strspn(w->at, " \t\r\n"); *w->at == '#'; w->at += strspn(w->at, " \t\r\n"))
        skip_to(w, "\r\n");
}

/* "text" or [class], to its end or the grammar's. An escape hides what comes after it. */
static void take_quoted(struct walk *w, char end)
{
    uint64_t n = 0;
    for (w->at++; *w->at != '\0' && *w->at != end; w->at++, n++)
        if (*w->at == '\\' && w->at[1] != '\0') w->at++;
    if (*w->at == end) w->at++;
    w->item = 1 + n / CHARACTERS_A_COPY;
}

/* <text> or <[number]> */
static void take_token(struct walk *w)
{
    skip_to(w, ">");
    if (*w->at == '>') w->at++;
    w->item = 1;
}

static tidemill_error *open_group(struct walk *w)
{
    if (w->depth == LLAMA_GRAMMAR_DEPTH_MAX)
        REFUSE("the grammar has more than %d parentheses open", LLAMA_GRAMMAR_DEPTH_MAX);
    w->outside[w->depth++] = w->copies;
    w->item = 0;
    w->at++;
    return NULL;
}

static void close_group(struct walk *w)
{
    if (w->depth > 0) w->item = 1 + w->copies - w->outside[--w->depth];
    w->at++;
}

/* 0: there is none. A large one stays large. */
static uint64_t take_number(struct walk *w)
{
    uint64_t number = 0;
    skip_space(w);
    for (; *w->at >= '0' && *w->at <= '9'; w->at++)
        number = MIN(number * 10 + (uint64_t)(*w->at - '0'), UINT64_C(1) << 32);
    return number;
}

/* {3}, {3,} or {3,5} */
static tidemill_error *take_repetition(struct walk *w)
{
    w->at++;
    uint64_t min = take_number(w);
    skip_space(w);
    if (*w->at == ',') w->at++;
    uint64_t max = take_number(w), times = MAX(min, max);
    if (times > LLAMA_GRAMMAR_REPEATS_MAX)
        REFUSE("the grammar repeats something %s%llu times; %d is the limit",
               times > UINT32_MAX ? "more than " : "", (unsigned long long)MIN(times, UINT32_MAX),
               LLAMA_GRAMMAR_REPEATS_MAX);
    if (times < 2) return NULL;
    w->item *= times;
    w->copies += w->item;
    if (w->copies > LLAMA_GRAMMAR_COPIES_MAX)
        REFUSE("the grammar's repetitions make more than %d copies", LLAMA_GRAMMAR_COPIES_MAX);
    return NULL;
}

static tidemill_error *step(struct walk *w)
{
    switch (*w->at) {
    case '"': take_quoted(w, '"'); return NULL;
    case '[': take_quoted(w, ']'); return NULL;
    case '<': take_token(w); return NULL;
    case '#': skip_to(w, "\r\n"); return NULL;
    case '(': return open_group(w);
    case ')': close_group(w); return NULL;
    case '{': return take_repetition(w);
    case ' ':
    case '\t':
    case '\n':
    case '\r':
    case '}':
    case '*':
    case '+':
    case '?': w->at++; return NULL;
    default:
        w->item = 1;
        w->at++;
        return NULL; /* a part of a name, a dot, | */
    }
}

tidemill_error *llama_grammar_check(const char *grammar)
{
    struct walk w = {.at = grammar};
    while (*w.at != '\0') TRY(step(&w));
    return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* llama_request.c - the body of an OpenAI request (chat completions, completions, embeddings), of a
 * rerank or classify request, or the text alone, read field by field. What would change the answer and is not supported is refused;
 * fields that nobody knows are passed over, as servers do. */
#include "runtime/llama_request.h"

#include "runtime/llama_grammar.h"
#include "runtime/llama_schema.h"

#include <math.h>
#include <yyjson.h>

#define TEMPERATURE_MIN 1e-6F
#define MESSAGES_MAX 10000
#define TEXTS_MAX 2048
#define STOPS_MAX 16
#define BIASES_MAX 1024
#define GRAMMAR_BYTES_MAX ((size_t)64 << 10)

#define REFUSE(...) return error_new(ERROR_MODEL_ERROR, __VA_ARGS__)

struct reading {
    struct llama_request *request;
    yyjson_val *body;
};

/* A field that is there and not null. */
static yyjson_val *get(yyjson_val *object, const char *name)
{
    yyjson_val *value = yyjson_obj_get(object, name);
    return yyjson_is_null(value) ? NULL : value;
}

static tidemill_error *copy_text(struct llama_request *request, yyjson_val *value,
                                 struct slice *ret)
{
    ret->size = yyjson_get_len(value);
    ret->data = arena_copy(&request->arena, yyjson_get_str(value), ret->size);
    return ret->data == NULL ? error_memory() : NULL;
}

/* For llama.cpp's C strings. */
static tidemill_error *copy_c_text(struct llama_request *request, yyjson_val *value,
                                   const char *name, const char **ret)
{
    struct slice text;
    if (!yyjson_is_str(value)) REFUSE("'%s' is not a string", name);
    TRY(copy_text(request, value, &text));
    if (memchr(text.data, 0, text.size) != NULL) REFUSE("'%s' has a NUL character in it", name);
    *ret = text.data;
    return NULL;
}

/* Numbers. */

static tidemill_error *read_real(const struct reading *r, const char *name, double min, double max,
                                 float *ret)
{
    yyjson_val *value = get(r->body, name);
    if (value == NULL) return NULL;
    double number = yyjson_get_num(value);
    if (!yyjson_is_num(value) || !(number >= min && number <= max))
        REFUSE("'%s' is not a number from %g to %g", name, min, max);
    *ret = (float)number;
    return NULL;
}

static tidemill_error *read_count(const struct reading *r, const char *name, int64_t min,
                                  int64_t max, int32_t *ret)
{
    yyjson_val *value = get(r->body, name);
    if (value == NULL) return NULL;
    double number = yyjson_get_num(value);
    if (!yyjson_is_num(value) || number != floor(number) ||
        !(number >= (double)min && number <= (double)max))
        REFUSE("'%s' is not a whole number from %lld to %lld", name, (long long)min,
               (long long)max);
    *ret = (int32_t)number;
    return NULL;
}

static tidemill_error *read_flag(const struct reading *r, const char *name, bool *ret)
{
    yyjson_val *value = get(r->body, name);
    if (value == NULL) return NULL;
    if (!yyjson_is_bool(value)) REFUSE("'%s' is neither true nor false", name);
    *ret = yyjson_get_bool(value);
    return NULL;
}

static tidemill_error *read_seed(const struct reading *r)
{
    yyjson_val *value = get(r->body, "seed");
    if (value == NULL) return NULL;
    if (!yyjson_is_int(value)) REFUSE("'seed' is not a whole number of 64 bits");
    uint64_t seed =
        yyjson_is_uint(value) ? yyjson_get_uint(value) : (uint64_t)yyjson_get_sint(value);
    r->request->has_seed = true;
    r->request->seed = (uint32_t)(seed ^ seed >> 32);
    return NULL;
}

static tidemill_error *read_numbers(const struct reading *r)
{
    struct llama_request *request = r->request;
    TRY(read_count(r, "max_tokens", 1, INT32_MAX, &request->tokens_max));
    TRY(read_count(r, "max_completion_tokens", 1, INT32_MAX, &request->tokens_max));
    TRY(read_real(r, "temperature", 0, 5, &request->temperature));
    if (request->temperature < TEMPERATURE_MIN)
        request->temperature = 0; /* no logit stays finite */
    TRY(read_real(r, "top_p", 0, 1, &request->top_p));
    TRY(read_real(r, "min_p", 0, 1, &request->min_p));
    TRY(read_count(r, "top_k", 0, 1 << 30, &request->top_k));
    TRY(read_real(r, "repeat_penalty", 0.01, 10, &request->repeat_penalty));
    TRY(read_real(r, "presence_penalty", -2, 2, &request->presence_penalty));
    TRY(read_real(r, "frequency_penalty", -2, 2, &request->frequency_penalty));
    return read_seed(r);
}

/* Lists. */

static tidemill_error *read_stops(const struct reading *r)
{
    struct llama_request *request = r->request;
    yyjson_val *value = get(r->body, "stop"), *item;
    size_t i, n = yyjson_is_arr(value) ? yyjson_arr_size(value) : 1;
    if (value == NULL) return NULL;
    if (n > STOPS_MAX) REFUSE("'stop' has %zu strings; %d is the limit", n, STOPS_MAX);
    request->stops = arena_calloc(&request->arena, MAX(n, (size_t)1), sizeof(struct slice));
    if (request->stops == NULL) return error_memory();
    for (i = 0; i < n; i++) {
        item = yyjson_is_arr(value) ? yyjson_arr_get(value, i) : value;
        if (!yyjson_is_str(item) || yyjson_get_len(item) == 0)
            REFUSE("'stop' is not a string, or an array of them, with something in it");
        TRY(copy_text(request, item, &request->stops[request->n_stops++]));
    }
    return NULL;
}

static tidemill_error *read_biases(const struct reading *r)
{
    struct llama_request *request = r->request;
    yyjson_val *value = get(r->body, "logit_bias"), *key, *item;
    size_t i, n;
    if (value == NULL) return NULL;
    if (!yyjson_is_obj(value)) REFUSE("'logit_bias' is not an object of token numbers");
    if (yyjson_obj_size(value) > BIASES_MAX)
        REFUSE("'logit_bias' has %zu tokens; %d is the limit", yyjson_obj_size(value), BIASES_MAX);
    request->biases =
        arena_calloc(&request->arena, yyjson_obj_size(value) + 1, sizeof *request->biases);
    if (request->biases == NULL) return error_memory();
    yyjson_obj_foreach(value, i, n, key, item)
    {
        int64_t token = 0;
        const char *digits = yyjson_get_str(key);
        size_t size = yyjson_get_len(key);
        for (size_t k = 0; k < size && k < 10; k++) {
            if (digits[k] < '0' || digits[k] > '9') {
                size = SIZE_MAX;
                break;
            }
            token = token * 10 + (digits[k] - '0');
        }
        double bias = yyjson_get_num(item);
        if (size < 1 || size > 9 || !yyjson_is_num(item) || !(bias >= -100 && bias <= 100))
            REFUSE("'logit_bias' wants token numbers, each with a number from -100 to 100");
        request->biases[request->n_biases++] =
            (struct llama_bias){.token = (int32_t)token, .bias = (float)bias};
    }
    return NULL;
}

/* true and top_logprobs of chat; a number of completions. */
static tidemill_error *read_logprobs(const struct reading *r)
{
    yyjson_val *value = get(r->body, "logprobs");
    r->request->n_top_logprobs = -1;
    if (value == NULL || yyjson_is_false(value)) return NULL;
    r->request->n_top_logprobs = 0;
    if (!yyjson_is_bool(value))
        return read_count(r, "logprobs", 0, LLAMA_TOP_LOGPROBS_MAX, &r->request->n_top_logprobs);
    return read_count(r, "top_logprobs", 0, LLAMA_TOP_LOGPROBS_MAX, &r->request->n_top_logprobs);
}

/* Grammars. */

static tidemill_error *check_grammar(const char *grammar)
{
    size_t size = strlen(grammar);
    if (size > GRAMMAR_BYTES_MAX)
        REFUSE("the grammar has %zu bytes; %zu is the limit", size, GRAMMAR_BYTES_MAX);
    return llama_grammar_check(grammar);
}

static tidemill_error *grammar_of_schema(struct llama_request *request, yyjson_val *schema)
{
    struct buffer text = {0};
    tidemill_error *error = llama_schema_to_grammar(schema, &text);
    if (error == NULL) {
        request->grammar = arena_copy(&request->arena, text.data, text.size);
        if (request->grammar == NULL) error = error_memory();
    }
    buffer_free(&text);
    if (error == NULL)
        error = error_context(llama_grammar_check(request->grammar), "'response_format'");
    return error;
}

static tidemill_error *read_format(const struct reading *r)
{
    struct llama_request *request = r->request;
    yyjson_val *format = get(r->body, "response_format"), *grammar = get(r->body, "grammar");
    if (grammar != NULL) {
        TRY(copy_c_text(request, grammar, "grammar", &request->grammar));
        TRY(check_grammar(request->grammar));
    }
    if (format == NULL) return NULL;
    yyjson_val *type = get(format, "type");
    if (!yyjson_is_str(type)) REFUSE("'response_format' has no 'type'");
    if (yyjson_equals_str(type, "text")) return NULL;
    if (grammar != NULL) REFUSE("'grammar' and 'response_format' exclude each other");
    if (yyjson_equals_str(type, "json_object")) return grammar_of_schema(request, NULL);
    if (!yyjson_equals_str(type, "json_schema"))
        REFUSE("'response_format' is of none of the types text, json_object, json_schema");
    yyjson_val *schema = get(get(format, "json_schema"), "schema");
    if (schema == NULL) schema = get(format, "schema");
    if (schema == NULL) REFUSE("'response_format' has no 'json_schema' with a 'schema'");
    return grammar_of_schema(request, schema);
}

/* What is asked. */

/* Text, or an array of parts that are text. */
static tidemill_error *read_content(struct llama_request *request, yyjson_val *content,
                                    const char **ret)
{
    struct buffer joined = {0};
    yyjson_val *part;
    size_t i, n;
    if (content == NULL) {
        *ret = "";
        return NULL;
    }
    if (!yyjson_is_arr(content)) return copy_c_text(request, content, "content", ret);
    yyjson_arr_foreach(content, i, n, part)
    {
        yyjson_val *text = get(part, "text");
        if (!yyjson_is_str(text) || strlen(yyjson_get_str(text)) != yyjson_get_len(text)) {
            buffer_free(&joined);
            REFUSE("a part of 'content' is not text; only text is supported");
        }
        buffer_append(&joined, yyjson_get_str(text), yyjson_get_len(text));
    }
    *ret = joined.is_failed ? NULL : arena_copy(&request->arena, joined.data, joined.size);
    buffer_free(&joined);
    return *ret == NULL ? error_memory() : NULL;
}

static tidemill_error *read_messages(const struct reading *r)
{
    struct llama_request *request = r->request;
    yyjson_val *messages = get(r->body, "messages"), *message;
    size_t i, n = yyjson_arr_size(messages);
    if (!yyjson_is_arr(messages) || n == 0) REFUSE("'messages' is not an array of messages");
    if (n > MESSAGES_MAX) REFUSE("%zu messages; %d is the limit", n, MESSAGES_MAX);
    request->messages = arena_calloc(&request->arena, n, sizeof *request->messages);
    if (request->messages == NULL) return error_memory();
    yyjson_arr_foreach(messages, i, n, message)
    {
        struct llama_text_message *one = &request->messages[request->n_messages++];
        if (get(message, "role") == NULL) REFUSE("message %zu has no 'role'", i);
        if (get(message, "tool_calls") != NULL || get(message, "function_call") != NULL)
            REFUSE("message %zu calls tools: not supported", i);
        TRY(error_context(copy_c_text(request, get(message, "role"), "role", &one->role),
                          "message %zu", i));
        TRY(error_context(read_content(request, get(message, "content"), &one->content),
                          "message %zu", i));
    }
    return NULL;
}

/* A string, or an array of at most `max`; a document may be {"text":"..."}, too. */
static tidemill_error *read_texts(const struct reading *r, yyjson_val *value, const char *name,
                                  size_t max)
{
    struct llama_request *request = r->request;
    bool is_list = yyjson_is_arr(value);
    size_t n = is_list ? yyjson_arr_size(value) : 1;
    if (n == 0 || n > max) REFUSE("'%s' has %zu texts; 1 to %zu are allowed", name, n, max);
    request->texts = arena_calloc(&request->arena, n, sizeof *request->texts);
    if (request->texts == NULL) return error_memory();
    for (size_t i = 0; i < n; i++) {
        yyjson_val *item = is_list ? yyjson_arr_get(value, i) : value;
        if (request->task == TASK_RERANK && yyjson_is_obj(item)) item = get(item, "text");
        if (!yyjson_is_str(item)) REFUSE("'%s' is not text", name);
        TRY(copy_text(request, item, &request->texts[request->n_texts++]));
    }
    return NULL;
}

static yyjson_val *first_of(yyjson_val *body, const char *const *names, size_t n,
                            const char **ret_name)
{
    for (size_t i = 0; i < n; i++) {
        *ret_name = names[i];
        yyjson_val *value = yyjson_is_str(body) ? body : get(body, names[i]);
        if (value != NULL) return value;
    }
    return NULL;
}

/* As Cohere, Jina and llama-server have them. */
static tidemill_error *read_pairs(const struct reading *r)
{
    struct llama_request *request = r->request;
    yyjson_val *query = get(r->body, "query"), *documents = get(r->body, "documents");
    if (!yyjson_is_str(query)) REFUSE("'query' is not text");
    if (!yyjson_is_arr(documents)) REFUSE("'documents' is not an array");
    TRY(copy_text(request, query, &request->query));
    TRY(read_count(r, "top_n", 1, INT32_MAX, &request->top_n));
    TRY(read_flag(r, "return_documents", &request->returns_documents));
    return read_texts(r, documents, "documents", TEXTS_MAX);
}

static tidemill_error *read_what(const struct reading *r)
{
    static const char *const prompts[] = {"prompt", "text", "input"};
    static const char *const inputs[] = {"input", "text", "prompt"};
    struct llama_request *request = r->request;
    bool has_many = request->task == TASK_EMBEDDING || request->task == TASK_CLASSIFY;
    const char *name;
    if (request->task == TASK_CHAT) return read_messages(r);
    if (request->task == TASK_RERANK) return read_pairs(r);
    yyjson_val *value = first_of(r->body, has_many ? inputs : prompts, 3, &name);
    if (value == NULL) REFUSE("the record has no '%s'", has_many ? "input" : "prompt");
    return read_texts(r, value, name, has_many ? TEXTS_MAX : 1);
}

static bool url_ends_with(struct slice url, const char *end)
{
    size_t size = strlen(end);
    return url.size >= size && memcmp(url.data + url.size - size, end, size) == 0;
}

static enum llama_task choose_task(yyjson_val *body, struct slice url, enum llama_task task,
                                   enum llama_task purpose)
{
    static const struct {
        const char *end;
        enum llama_task task;
    } urls[] = {
        {"/chat/completions", TASK_CHAT}, {"/completions", TASK_COMPLETION},
        {"/embeddings", TASK_EMBEDDING},  {"/rerank", TASK_RERANK},
        {"/reranking", TASK_RERANK},      {"/classify", TASK_CLASSIFY},
    };
    if (task != TASK_AUTO) return task;
    for (size_t i = 0; i < COUNT_OF(urls); i++)
        if (url_ends_with(url, urls[i].end)) return urls[i].task;
    if (get(body, "messages") != NULL) return TASK_CHAT;
    if (get(body, "query") != NULL && get(body, "documents") != NULL) return TASK_RERANK;
    if (get(body, "prompt") != NULL) return TASK_COMPLETION;
    if (get(body, "input") != NULL)
        return purpose == TASK_CLASSIFY ? TASK_CLASSIFY : TASK_EMBEDDING;
    return purpose;
}

static tidemill_error *refuse_unsupported(const struct reading *r)
{
    static const char *const names[] = {"tools",      "functions",  "audio",     "suffix",
                                        "modalities", "prediction", "dimensions"};
    /* of servers that rank and classify: texts cut short, scores of another kind */
    static const char *const of_scores[] = {"truncate_prompt_tokens",
                                            "max_tokens_per_doc",
                                            "max_chunks_per_doc",
                                            "rank_fields",
                                            "softmax",
                                            "activation",
                                            "use_activation",
                                            "raw_scores"};
    bool makes_scores = r->request->task == TASK_RERANK || r->request->task == TASK_CLASSIFY;
    yyjson_val *encoding = get(r->body, "encoding_format");
    int32_t n = 1;
    TRY(read_count(r, "n", 1, 1, &n));
    TRY(read_count(r, "best_of", 1, 1, &n));
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (get(r->body, names[i]) != NULL) REFUSE("'%s' is not supported", names[i]);
    for (size_t i = 0; makes_scores && i < COUNT_OF(of_scores); i++)
        if (get(r->body, of_scores[i]) != NULL) REFUSE("'%s' is not supported", of_scores[i]);
    if (encoding != NULL && !yyjson_equals_str(encoding, "float"))
        REFUSE("'encoding_format' can only be float");
    if (yyjson_is_true(get(r->body, "echo"))) REFUSE("'echo' is not supported");
    return NULL;
}

static tidemill_error *read_body(const struct reading *r)
{
    struct llama_request *request = r->request;
    yyjson_val *model = get(r->body, "model");
    if (!yyjson_is_obj(r->body) && !yyjson_is_str(r->body))
        REFUSE("the record is neither an object nor text");
    TRY(refuse_unsupported(r));
    TRY(read_what(r));
    if (yyjson_is_str(model)) TRY(copy_c_text(request, model, "model", &request->model));
    if (request->task != TASK_CHAT && request->task != TASK_COMPLETION) return NULL;
    TRY(read_numbers(r));
    TRY(read_stops(r));
    TRY(read_biases(r));
    TRY(read_logprobs(r));
    return read_format(r);
}

tidemill_error *llama_request_read(struct slice body, struct slice url, enum llama_task task,
                                   enum llama_task purpose, struct llama_request *ret)
{
    *ret = (struct llama_request){.temperature = 1, .top_p = 1, .repeat_penalty = 1};
    yyjson_doc *doc = yyjson_read(body.data, body.size, 0);
    if (doc == NULL) REFUSE("the record is not valid JSON");
    struct reading r = {.request = ret, .body = yyjson_doc_get_root(doc)};
    ret->task = choose_task(r.body, url, task, purpose);
    tidemill_error *error = read_body(&r);
    yyjson_doc_free(doc);
    return error;
}

void llama_request_free(struct llama_request *request)
{
    arena_free(&request->arena);
    *request = (struct llama_request){0};
}

size_t llama_find_stop(const struct llama_request *request, const char *text, size_t size,
                       size_t seen)
{
    size_t first = SIZE_MAX;
    for (size_t i = 0; i < request->n_stops; i++) {
        const struct slice *stop = &request->stops[i];
        size_t from = seen >= stop->size ? seen - stop->size + 1 : 0;
        if (from >= size) continue;
        const char *found = memmem(text + from, size - from, stop->data, stop->size);
        if (found != NULL) first = MIN(first, (size_t)(found - text));
    }
    return first;
}

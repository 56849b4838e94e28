/* SPDX-License-Identifier: Apache-2.0 */
/* prompt.h - what a request to a generative model begins with, how much it asks for, and whether two
 * answers to it may differ: from the text of its JSON, as OpenAI's clients write it and others do. */
#ifndef TIDEMILL_FORMAT_PROMPT_H
#define TIDEMILL_FORMAT_PROMPT_H

#include "base/base.h"

struct prompt {
    struct slice text;   /* model, tools and prompt, in that order; equal beginnings of it are equal
                            beginnings for an engine's cache. In the arena; empty: none was found */
    uint32_t tokens_max; /* that may be generated; 0: not said */
    bool is_sampled;     /* an answer is drawn: temperature above 0 or not said, and no seed */
};

/* `json` is a body (messages, prompt or input), or a line of a batch file that has one in `body`. It need
 * not be valid: then nothing is found. `is_generating`: a bare "input" is asked to be answered, not
 * to be embedded; where the body or its url tells, that goes first. False: out of memory. */
bool prompt_read(struct slice json, bool is_generating, struct arena *arena, struct prompt *ret);
/* What the url of a request says of a bare "input" in it. */
bool prompt_url_is_generating(struct slice url);

#endif

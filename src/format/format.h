/* SPDX-License-Identifier: Apache-2.0 */
/* format.h - the way into the room of records: bytes -> records -> tensors, and answers -> bytes.
 *
 *     tokenizer turns text into token ids, with a tokenizer.json
 *     source    cuts inputs (JSONL, CSV, .npy, .npz; plain, gzip, zstd) into raw records
 *     decoder   turns one raw record into an id, kept fields and the model's input rows
 *     encoder   turns one record's answer into a line (or a row) of output
 *     prompt    finds what a request to a generative model begins with
 *     error_line  turns a failed record into a line of the error sink */
#ifndef TIDEMILL_FORMAT_FORMAT_H
#define TIDEMILL_FORMAT_FORMAT_H

#include "format/decode.h"
#include "format/encode.h"
#include "format/prompt.h"
#include "format/source.h"
#include "format/tensor.h"
#include "format/tokenizer.h"

#endif

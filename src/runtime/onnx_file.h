/* SPDX-License-Identifier: Apache-2.0 */
/* onnx_file.h - what an ONNX file says about itself, without the library. */
#ifndef TIDEMILL_RUNTIME_ONNX_FILE_H
#define TIDEMILL_RUNTIME_ONNX_FILE_H

#include "runtime/model.h"

/* Sets rank -1 where the file declares no shape: the library reports a scalar there. */
void onnx_file_mark_undeclared(const char *path, struct model_signature *signature);

/* The whole file, malloc'ed. ERROR_MODEL_LOAD; ERROR_USAGE for a format that is not ONNX's own. */
tidemill_error *onnx_file_read(const char *path, char **ret, size_t *ret_size);

#endif

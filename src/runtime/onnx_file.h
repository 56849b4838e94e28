/* SPDX-License-Identifier: Apache-2.0 */
/* onnx_file.h - what an ONNX file says about itself, without the library. */
#ifndef TIDEMILL_RUNTIME_ONNX_FILE_H
#define TIDEMILL_RUNTIME_ONNX_FILE_H

#include "runtime/model.h"

/* Sets rank -1 where the file declares no shape: the library reports a scalar there. */
void onnx_file_mark_undeclared(const char *path, struct model_signature *signature);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* ort_library.h - finds and opens ONNX Runtime at run time, so that a user's own build serves: CPU,
 * CUDA, TensorRT, OpenVINO. */
#ifndef TIDEMILL_RUNTIME_ORT_LIBRARY_H
#define TIDEMILL_RUNTIME_ORT_LIBRARY_H

#include "base/base.h"

#include <onnxruntime_c_api.h>

#define ORT_API_OLDEST 17 /* only functions that ONNX Runtime 1.17 has are used */

struct ort_library {
    const OrtApi *api;
    char version[32]; /* "1.22.0" */
    char path[1024];  /* what was opened */
};

/* `given`: a file, or a folder that holds one (--onnxruntime); NULL: $TIDEMILL_ONNXRUNTIME, the
 * system's, the one the build knows. The library stays open for the life of the process. */
tidemill_error *ort_library_open(const char *given, struct ort_library *ret);

#endif

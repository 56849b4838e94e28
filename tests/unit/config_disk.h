/* SPDX-License-Identifier: Apache-2.0 */
/* config_disk.h - a disk with a tidemill.yaml and the files that the tests' own name. */
#ifndef TIDEMILL_TESTS_CONFIG_DISK_H
#define TIDEMILL_TESTS_CONFIG_DISK_H

#include "server/config.h"
#include "simdisk.h"
#include "zone_vectors.h"

#include <stdio.h>
#include <string.h>

#define CONFIG_PATH "etc/tidemill.yaml"

static inline struct simdisk *config_disk(const char *yaml)
{
    static const char *const files[] = {"etc/digits.onnx", "/models/d.onnx",
                                        "etc/labels.txt",  "etc/tls/cert.pem",
                                        "/keys/key.pem",   "/usr/share/zoneinfo"};
    struct simdisk *disk = simdisk_new();
    for (size_t i = 0; i < COUNT_OF(files); i++) simdisk_put(disk, files[i], "", 0);
    for (size_t i = 0; i < COUNT_OF(zone_vectors); i++) {
        char path[128];
        snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", zone_vectors[i].name);
        simdisk_put(disk, path, zone_vectors[i].file, zone_vectors[i].size);
    }
    simdisk_put(disk, "/usr/share/zoneinfo/broken", "TZif2", 5);
    simdisk_put(disk, CONFIG_PATH, yaml, strlen(yaml));
    return disk;
}

#endif

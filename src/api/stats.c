#include "api/stats.h"

const double loami_bounds_ttft[] = { 0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5,  0.75, 1,
                                     2.5,   5,     7.5,  10,   20,   40,   80,   160, 640,  2560, 0 };
const double loami_bounds_gap[] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4,
                                    0.5,   0.75,   1,     2.5,  5,     7.5,  10,    20,  40,   80,  0 };
const double loami_bounds_request[] = { 0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1,   1.5, 2,   2.5, 5,    10,
                                        15,   20,   30,  40,  50,  60,  120, 240, 480, 960, 1920, 0 };
const double loami_bounds_tokens[] = { 1,    2,    5,     10,    20,    50,     100,    200,    500, 1000,
                                       2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 0 };
const double loami_bounds_step[] = { 1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 0 };
const double loami_bounds_n[] = { 1, 2, 5, 10, 20, 0 };

const char *const loami_ending_names[LOAMI_ENDINGS] = { "stop", "length", "abort", "error" };

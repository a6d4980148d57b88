/* substrate/load.h: substrates in shared objects of their own. A platform file: the one that knows what those are called. */
#ifndef LOAMI_LOAD_H
#define LOAMI_LOAD_H

#include "loam_substrate.h"

/* Loads the substrate `name` from NAME.so (NAME.dylib on macOS), once a process; it stays. Looked for in this order: the
 * file that the environment's LOAM_NAME says (LOAM_MLX=/path/to/mlx.so), beside the running program, and in ../lib/loam
 * of that. LOAM_E_NOT_FOUND says where; LOAM_E_UNSUPPORTED: it is there and does not fit. Any thread. */
int loami_substrate_load(const loam_substrate **out, const char *name, loam_err *err);

/* Whether the substrate `name` is there and says that it suits this machine. */
bool loami_substrate_suits(const char *name);

#endif

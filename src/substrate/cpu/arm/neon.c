#define NAME loami_kern_neon
#include "substrate/cpu/arm/neon_body.inc"

#define DOT_PRODUCT
#define NAME loami_kern_dotprod
#include "substrate/cpu/arm/neon_body.inc"

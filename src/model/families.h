/* model/families.h: the families there are. One file each, named after model_type. */
#ifndef LOAMI_FAMILIES_H
#define LOAMI_FAMILIES_H

#include "model/model.h"

/* Ends with NULL. */
extern const loami_family *const loami_families[];

#endif

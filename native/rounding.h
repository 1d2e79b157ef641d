#ifndef SQZ_ROUNDING_H
#define SQZ_ROUNDING_H

#include "python.h"

PyObject *sqz_round_output(PyObject *self, PyObject *args);
PyObject *sqz_round_levels(PyObject *self, PyObject *args);

#endif

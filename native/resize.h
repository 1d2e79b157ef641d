#ifndef SQZ_RESIZE_H
#define SQZ_RESIZE_H

#include "python.h"

PyObject *sqz_resize(PyObject *self, PyObject *args);

#endif

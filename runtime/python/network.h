#ifndef SQZ_NETWORK_H
#define SQZ_NETWORK_H

#include "python.h"

extern PyType_Spec sqz_network_spec;
/* The kernels that run here, the fastest first. */
PyObject *sqz_kernel_names(PyObject *module, PyObject *unused);

#endif

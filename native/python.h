/* Python's stable interface, for any CPython from 3.11 on. */
#ifndef SQZ_PYTHON_H
#define SQZ_PYTHON_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#endif

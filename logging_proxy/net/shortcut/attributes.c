/* Access to Python objects; see shortcut.h for what each function returns. */

#include "shortcut.h"

#include <limits.h>

struct names name;

int
is_true(PyObject *object, PyObject *attribute)
{
    PyObject *value = PyObject_GetAttr(object, attribute);
    if (value == NULL)
        return -1;
    int truth = PyObject_IsTrue(value);
    Py_DECREF(value);
    return truth;
}

int
none_is_true(PyObject *object, PyObject *const *attributes, int count)
{
    for (int i = 0; i < count; i++) {
        int truth = is_true(object, attributes[i]);
        if (truth != 0)
            return truth < 0 ? -1 : 0;
    }
    return 1;
}

int
is_still(PyObject *object, PyObject *attribute, PyObject *expected)
{
    PyObject *value = PyObject_GetAttr(object, attribute);
    if (value == NULL)
        return -1;
    Py_DECREF(value);
    return value == expected;
}

int
get_number(PyObject *object, PyObject *attribute, long long *number)
{
    PyObject *value = PyObject_GetAttr(object, attribute);
    if (value == NULL)
        return -1;
    *number = PyLong_AsLongLong(value);
    Py_DECREF(value);
    return *number == -1 && PyErr_Occurred() ? -1 : 0;
}

int
set_number(PyObject *object, PyObject *attribute, long long number)
{
    PyObject *value = PyLong_FromLongLong(number);
    int failed = value == NULL ? -1 : PyObject_SetAttr(object, attribute, value);
    Py_XDECREF(value);
    return failed;
}

int
succeeded(PyObject *result)
{
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
call_with(PyObject *callable, PyObject *argument)
{
    if (argument == NULL)
        return -1;
    PyObject *result = PyObject_CallOneArg(callable, argument);
    Py_DECREF(argument);
    return succeeded(result);
}

int
descriptor(PyObject *fileno)
{
    PyObject *number = PyObject_CallNoArgs(fileno);
    long fd = number == NULL ? -1 : PyLong_AsLong(number);
    Py_XDECREF(number);
    if (fd < 0)
        PyErr_Clear();
    return fd < 0 || fd > INT_MAX ? -1 : (int)fd;
}

/* Splits bytes of a spool into records (`recording.records.RecordReader`). */

#include "shortcut.h"

#include <string.h>

static unsigned long long
little_endian(const unsigned char *bytes, int count)
{
    unsigned long long number = 0;
    while (count-- > 0)
        number = number << 8 | bytes[count];
    return number;
}

/* A new record; the caller has checked that `type` is a subtype of tuple. */
static PyObject *
make(PyTypeObject *type, PyObject *kind, const unsigned char *header, Py_ssize_t length)
{
    PyObject *record = type->tp_alloc(type, 5);
    if (record == NULL)
        return NULL;
    PyObject *fields[] = {
        Py_NewRef(kind),
        PyLong_FromLong(header[5]),
        PyLong_FromUnsignedLongLong(little_endian(header + 8, 8)),
        PyLong_FromUnsignedLongLong(little_endian(header + 16, 8)),
        PyBytes_FromStringAndSize((const char *)header + HEADER, length),
    };
    int failed = 0;
    for (int i = 0; i < 5; i++) {
        failed |= fields[i] == NULL;
        PyTuple_SET_ITEM(record, i, fields[i]);
    }
    if (failed)
        Py_CLEAR(record);
    return record;
}

/* Position after the last whole and valid record; -1 with an exception. */
static Py_ssize_t
split_into(PyObject *found, PyTypeObject *type, PyObject *kinds, Py_ssize_t most, const unsigned char *data,
           Py_ssize_t size)
{
    Py_ssize_t at = 0;
    while (size - at >= HEADER) {
        Py_ssize_t length = (Py_ssize_t)little_endian(data + at, 4), kind = data[at + 4];
        if (length > most || kind >= PyTuple_GET_SIZE(kinds) || size - at - HEADER < length)
            break;
        PyObject *record = make(type, PyTuple_GET_ITEM(kinds, kind), data + at, length);
        int failed = record == NULL || PyList_Append(found, record) < 0;
        Py_XDECREF(record);
        if (failed)
            return -1;
        at += HEADER + length;
    }
    return at;
}

PyObject *
split(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyTypeObject *type;
    PyObject *kinds, *data;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "SO!O!n:split", &data, &PyType_Type, &type, &PyTuple_Type, &kinds, &most))
        return NULL;
    if (!PyType_IsSubtype(type, &PyTuple_Type))
        return PyErr_Format(PyExc_TypeError, "records are named tuples");
    PyObject *found = PyList_New(0);
    if (found == NULL)
        return NULL;
    const unsigned char *bytes = (const unsigned char *)PyBytes_AS_STRING(data);
    Py_ssize_t end = split_into(found, type, kinds, most, bytes, PyBytes_GET_SIZE(data));
    if (end >= 0)
        return Py_BuildValue("Nn", found, end);
    Py_DECREF(found);
    return NULL;
}

/* A FastPath forwards from a Reader to a Sender: whole chunks, or pieces of a body with a length
   (`_receive_body` of `ProxyClient` and `ServerConnection`, `bodyReceived` of the two directions). */

#include "shortcut.h"

#include <string.h>
#include <structmember.h>

#define MOST_DIGITS 15 /* of a chunk's size, as in grammar.py: it cannot overflow */

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Start of the payload of the chunk at `data`, and its size; NULL unless it is complete, without extensions, and not
   the last chunk, which Python handles. */
static const char *
whole_chunk(const char *data, const char *end, size_t *size)
{
    const char *at = data;
    int digit;
    *size = 0;
    while (at < end && at - data < MOST_DIGITS && (digit = hex_digit(*at)) >= 0) {
        *size = *size << 4 | (size_t)digit;
        at++;
    }
    if (at == data || *size == 0 || end - at < 4 || at[0] != '\r' || at[1] != '\n')
        return NULL;
    at += 2;
    if (*size > (size_t)(end - at) - 2 || at[*size] != '\r' || at[*size + 1] != '\n')
        return NULL;
    return at;
}

/* The payload of `data` if it consists of whole plain chunks; NULL if not, or with an exception. */
static PyObject *
payload_of_chunks(const char *data, Py_ssize_t length)
{
    const char *end = data + length, *at, *chunk;
    size_t size, total = 0;
    for (at = data; at < end; at = chunk + size + 2) {
        chunk = whole_chunk(at, end, &size);
        if (chunk == NULL)
            return NULL;
        total += size;
    }
    PyObject *payload = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)total);
    if (payload == NULL)
        return NULL;
    char *to = PyBytes_AS_STRING(payload);
    for (at = data; at < end; at = chunk + size + 2) {
        chunk = whole_chunk(at, end, &size);
        memcpy(to, chunk, size);
        to += size;
    }
    return payload;
}

/* 1 if all attributes, given as pairs of an object and a name, are false; 0 if not, -1 with an exception. */
static int
all_false(PyObject *pairs)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(pairs); i++) {
        PyObject *pair = PyTuple_GET_ITEM(pairs, i), *attribute = PyTuple_GET_ITEM(pair, 1);
        int is_false = none_is_true(PyTuple_GET_ITEM(pair, 0), &attribute, 1);
        if (is_false != 1)
            return is_false;
    }
    return 1;
}

int
preconditions_hold(FastPath *self)
{
    if (self->checked)
        return 1;
    int hold = is_still(self->direction, name.sink, self->sink);
    return hold == 1 ? all_false(self->must_be_false) : hold;
}

/* Extends the source's deadline; 0, or -1 with an exception. */
static int
extend_deadline(FastPath *self)
{
    PyObject *now = PyObject_CallNoArgs(self->now);
    if (now == NULL)
        return -1;
    double seconds = PyFloat_AsDouble(now);
    Py_DECREF(now);
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    PyObject *deadline = PyFloat_FromDouble(seconds + self->patience);
    if (deadline == NULL)
        return -1;
    int result = PyObject_SetAttr(self->source, name.deadline, deadline);
    Py_DECREF(deadline);
    return result;
}

/* Records a piece, as `Capture.passed` does.  1 if the payload may be sent, 0 if the direction has to wait because the
   spool is full, -1 with an exception. */
static int
record(FastPath *self, PyObject *payload)
{
    if (self->writing == Py_None)
        return 1;
    PyObject *record = PyTuple_Pack(3, self->kind, self->no_flags, payload);
    PyObject *records = record == NULL ? NULL : PyTuple_Pack(1, record);
    Py_XDECREF(record);
    int stored = records == NULL ? -1 : write_records((Writing *)self->writing, self->exchange, records);
    Py_XDECREF(records);
    return stored == 0 ? none_is_true(self->writer, &name.full, 1) : stored;
}

/* Sends `data` if `may` is 1, and leaves the rest to the direction: 1 if all was sent, 0 if not, -1 with an
   exception. */
static int
send_onward(FastPath *self, int may, const char *data, Py_ssize_t size)
{
    Py_ssize_t sent = may ? send_directly((Sender *)self->send, data, size) : 0;
    if (sent < 0 || sent == size)
        return sent < 0 ? -1 : 1;
    self->checked = 0;
    PyObject *rest = PyBytes_FromStringAndSize(data + sent, size - sent);
    PyObject *done = rest == NULL ? NULL : PyObject_CallMethodOneArg(self->direction, name.pass_on, rest);
    Py_XDECREF(rest);
    return succeeded(done);
}

int
is_current(FastPath *self)
{
    return is_still(self->source, self->role, self->receiver);
}

/* Whole chunks: 1 if `data` is that and was forwarded, 0 if it is not, -1 with an exception. */
static int
forward_chunks(FastPath *self, const char *data, Py_ssize_t size)
{
    int hold = preconditions_hold(self);
    if (hold != 1)
        return hold;
    PyObject *payload = payload_of_chunks(data, size);
    if (payload == NULL)
        return PyErr_Occurred() ? -1 : 0;
    int may = extend_deadline(self) < 0 ? -1 : record(self, payload);
    self->passed += PyBytes_GET_SIZE(payload);
    Py_DECREF(payload);
    if (may < 0)
        return -1;
    self->checked = 1;
    return send_onward(self, may, data, size) < 0 ? -1 : 1;
}

int
forward_piece(FastPath *self, PyObject *piece, const char *data, Py_ssize_t size)
{
    long long ahead;
    if (get_number(self->counted, name.ahead, &ahead) < 0 || set_number(self->counted, name.ahead, ahead - size) < 0)
        return -1;
    int may = extend_deadline(self) < 0 ? -1 : record(self, piece);
    self->passed += size;
    if (may < 0)
        return -1;
    int sent = send_onward(self, may, data, size);
    if (sent >= 0 && self->sending != Py_None && succeeded(PyObject_CallNoArgs(self->sending)) < 0)
        return -1;
    return sent;
}

/* A piece of a counted body: 1 if it was forwarded, 0 if it may be the last piece, -1 with an exception. */
static int
forward_small(FastPath *self, const char *data, Py_ssize_t size)
{
    long long ahead;
    int hold = preconditions_hold(self);
    if (hold != 1)
        return hold;
    if (get_number(self->counted, name.ahead, &ahead) < 0)
        return -1;
    if (size >= ahead)
        return 0;
    PyObject *piece = PyBytes_FromStringAndSize(data, size);
    int sent = piece == NULL ? -1 : forward_piece(self, piece, data, size);
    Py_XDECREF(piece);
    return sent < 0 ? -1 : 1;
}

int
forward(FastPath *self, const char *data, Py_ssize_t size)
{
    return self->counted == Py_None ? forward_chunks(self, data, size) : forward_small(self, data, size);
}

HOLDS(fast_path, FastPath, source, no_flags)

/* Checks that it is a tuple of pairs; 0 with an exception if not. */
static int
are_pairs(PyObject *pairs)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(pairs); i++) {
        PyObject *pair = PyTuple_GET_ITEM(pairs, i);
        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
            PyErr_SetString(PyExc_TypeError, "not pairs");
            return 0;
        }
    }
    return 1;
}

/* Checks that it is None or of the type; 0 with an exception if not. */
static int
may_be(PyObject *object, PyTypeObject *type)
{
    if (object == Py_None || PyObject_TypeCheck(object, type))
        return 1;
    PyErr_Format(PyExc_TypeError, "None or a %s", type->tp_name);
    return 0;
}

static PyObject *
fast_path_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"source",   "role",          "receiver", "direction", "sink",    "send",
                            "exchange", "writer",        "writing",  "kind",      "must_be_false",
                            "counted",  "shared",        "sending",  "now",       "patience", "least",
                            "largest",  NULL};
    FastPath made;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "$OOOOOO!OOOOO!OOOOdnn:FastPath", names, &made.source, &made.role,
                                     &made.receiver, &made.direction, &made.sink, &SenderType, &made.send, &made.exchange,
                                     &made.writer, &made.writing, &made.kind, &PyTuple_Type, &made.must_be_false,
                                     &made.counted, &made.shared, &made.sending, &made.now, &made.patience,
                                     &made.least, &made.largest))
        return NULL;
    if (!are_pairs(made.must_be_false) || !may_be(made.writing, &WritingType))
        return NULL;
    FastPath *self = (FastPath *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    for (PyObject **from = &made.source, **to = &self->source; to <= &self->now; from++, to++)
        *to = Py_NewRef(*from);
    self->patience = made.patience;
    self->least = made.least;
    self->largest = made.largest;
    self->no_flags = PyLong_FromLong(0);
    if (self->no_flags == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyMemberDef fast_path_attributes[] = {
    {"passed", T_LONGLONG, offsetof(FastPath, passed), READONLY, NULL},
    {NULL},
};

PyTypeObject FastPathType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "logging_proxy.net.shortcut._compiled.FastPath",
    .tp_basicsize = sizeof(FastPath),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = fast_path_new,
    .tp_members = fast_path_attributes,
    .tp_traverse = (traverseproc)fast_path_traverse,
    .tp_dealloc = (destructor)fast_path_dealloc,
};

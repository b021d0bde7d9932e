/* A Passage: whole chunks from a Reader to a Sender (`ProxyClient._receive_body`, `ResponseHalf.bodyReceived`). */

#include "shortcut.h"

#include <string.h>

#define MOST_DIGITS 15 /* of a chunk's size, as in grammar.py: no overflow */

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Where the payload of the chunk at `data` begins, and its size; NULL if it is not a plain chunk, here from
   size line to CRLF.  The last chunk is none: what follows it is for others. */
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

/* The payload of `data`, if that is plain chunks, all of them whole; NULL, and perhaps an exception, if not. */
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

/* 1 while the body's reader waits for a size line and nothing waits in the half, 0 if not, -1 with an exception. */
static int
is_usual(Passage *self)
{
    PyObject *const amid[] = {name._held, name._left, name._last};
    int usual = none_is_true(self->body, amid, 3);
    return usual == 1 ? none_is_true(self->half, &name._waiting, 1) : usual;
}

/* The source has time again; 0, or -1 with an exception. */
static int
postpone(Passage *self)
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

/* `data`, which has been recorded, on to the sink, or to the half if it must wait; 0, or -1 with an exception. */
static int
pass_on(Passage *self, const char *data, Py_ssize_t size)
{
    int open = self->writer == Py_None ? 1 : none_is_true(self->writer, &name.full, 1);
    Py_ssize_t sent = open == 1 ? send_directly((Sender *)self->send, data, size) : open;
    if (sent < 0)
        return -1;
    if (sent == size)
        return 0;
    self->usual = 0;
    PyObject *rest = PyBytes_FromStringAndSize(data + sent, size - sent);
    PyObject *done = rest == NULL ? NULL : PyObject_CallMethodOneArg(self->half, name.pass_on, rest);
    Py_XDECREF(rest);
    return succeeded(done);
}

int
is_current(Passage *self)
{
    return is_still(self->source, name._receiver, self->half);
}

int
pass_along(Passage *self, const char *data, Py_ssize_t size)
{
    int usual = self->usual ? 1 : is_usual(self);
    if (usual != 1)
        return usual;
    PyObject *payload = payload_of_chunks(data, size);
    if (payload == NULL)
        return PyErr_Occurred() ? -1 : 0;
    int failed = postpone(self);
    if (!failed && self->passed != Py_None)
        failed = tell(self->passed, PyTuple_Pack(3, self->kind, self->no_flags, payload));
    Py_DECREF(payload);
    if (failed)
        return -1;
    self->usual = 1;
    return pass_on(self, data, size) < 0 ? -1 : 1;
}

HOLDS(passage, Passage, source, now)

static PyObject *
passage_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"source", "body", "half", "send", "passed", "writer", "kind", "now", "patience", NULL};
    PyObject *source, *body, *half, *send, *passed, *writer, *kind, *now;
    double patience;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "$OOOO!OOOOd:Passage", names, &source, &body, &half,
                                     &SenderType, &send, &passed, &writer, &kind, &now, &patience))
        return NULL;
    Passage *self = (Passage *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->source = Py_NewRef(source);
    self->body = Py_NewRef(body);
    self->half = Py_NewRef(half);
    self->send = Py_NewRef(send);
    self->passed = Py_NewRef(passed);
    self->writer = Py_NewRef(writer);
    self->kind = Py_NewRef(kind);
    self->patience = patience;
    self->now = Py_NewRef(now);
    self->no_flags = PyLong_FromLong(0);
    if (self->no_flags == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

PyTypeObject PassageType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "logging_proxy.shortcut._compiled.Passage",
    .tp_basicsize = sizeof(Passage),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = passage_new,
    .tp_traverse = (traverseproc)passage_traverse,
    .tp_dealloc = (destructor)passage_dealloc,
};

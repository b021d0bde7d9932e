/* A Sender sends at once on the socket of a transport that has nothing queued (`net.wire.sender`). */

#include "shortcut.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int
has_empty_queue(Sender *self)
{
    PyObject *const busy[] = {name.dataBuffer, name._tempDataBuffer, name.disconnecting, name._writeDisconnecting};
    return none_is_true(self->transport, busy, 4);
}

long long
unreceived(Sender *self)
{
    int fd = descriptor(self->fileno), waiting = 0;
#ifdef TIOCOUTQ
    if (fd >= 0 && ioctl(fd, TIOCOUTQ, &waiting) < 0)
        waiting = 0;
#endif
    return waiting;
}

/* Whether a read still reports how the connection ended (`net.wire._LEFT_FOR_A_READ`). */
static int
is_left_for_a_read(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ENOBUFS || error == EPIPE;
}

Py_ssize_t
send_directly(Sender *self, const char *data, Py_ssize_t size)
{
    int fd = descriptor(self->fileno);
    if (fd < 0)
        return 0;
    int empty = has_empty_queue(self);
    if (empty != 1)
        return empty;
    Py_ssize_t sent;
    int error;
    if (size <= SMALL) {
        sent = send(fd, data, (size_t)size, 0);
        error = errno;
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        sent = send(fd, data, (size_t)size, 0);
        error = errno;
        Py_END_ALLOW_THREADS
    }
    if (sent >= 0)
        return sent;
    /* The reactor's own send will fail as well and report the loss, unless a read comes first. */
    return is_left_for_a_read(error) ? 0 : succeeded(PyObject_CallNoArgs(self->failed));
}

static PyObject *
sender_call(Sender *self, PyObject *args, PyObject *kwargs)
{
    Py_buffer data;
    if (!PyArg_ParseTuple(args, "y*", &data))
        return NULL;
    PyObject *result = NULL;
    Py_ssize_t sent = data.len == 0 ? 0 : send_directly(self, data.buf, data.len);
    if (sent == data.len)
        result = Py_NewRef(Py_True);
    else if (sent >= 0) {
        PyObject *rest = PyBytes_FromStringAndSize((char *)data.buf + sent, data.len - sent);
        PyObject *written = rest == NULL ? NULL : PyObject_CallMethodOneArg(self->transport, name.write, rest);
        if (written != NULL)
            result = Py_NewRef(Py_False);
        Py_XDECREF(rest);
        Py_XDECREF(written);
    }
    PyBuffer_Release(&data);
    return result;
}

HOLDS(sender, Sender, transport, fileno)

static PyObject *
sender_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *transport, *failed;
    if (!PyArg_ParseTuple(args, "OO:Sender", &transport, &failed))
        return NULL;
    Sender *self = (Sender *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->transport = Py_NewRef(transport);
    self->failed = Py_NewRef(failed);
    PyObject *socket = PyObject_GetAttr(transport, name.socket);
    self->fileno = socket == NULL ? NULL : PyObject_GetAttr(socket, name.fileno);
    Py_XDECREF(socket);
    if (self->fileno == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

PyTypeObject SenderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "logging_proxy.net.shortcut._compiled.Sender",
    .tp_basicsize = sizeof(Sender),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = sender_new,
    .tp_call = (ternaryfunc)sender_call,
    .tp_traverse = (traverseproc)sender_traverse,
    .tp_dealloc = (destructor)sender_dealloc,
};

/* Creates a file with its content (`logserver.store.system.System.create`). */

#include "shortcut.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Whether all data was written; if not, `errno` says why. */
static int
write_all(int fd, const char *data, Py_ssize_t size)
{
    for (Py_ssize_t at = 0; at < size;) {
        ssize_t written = pwrite(fd, data + at, size - at, at);
        if (written == 0)
            errno = EIO; /* otherwise a file system that writes nothing would loop for ever */
        if (written == 0 || (written < 0 && errno != EINTR))
            return 0;
        at += written < 0 ? 0 : written;
    }
    return 1;
}

/* 0, or an errno.  Only opening can fail with EEXIST. */
static int
make(int folder, const char *path, const char *data, Py_ssize_t size)
{
    int fd;
    do
        fd = openat(folder, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return errno;
    int error = write_all(fd, data, size) ? 0 : errno;
    if (close(fd) < 0 && error == 0 && errno != EINTR)
        error = errno;
    return error;
}

PyObject *
create(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *path, *data;
    Py_ssize_t size;
    int folder, error;
    if (!PyArg_ParseTuple(args, "sy#i:create", &path, &data, &size, &folder))
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    error = make(folder, path, data, size);
    Py_END_ALLOW_THREADS;
    if (error == 0)
        Py_RETURN_TRUE;
    if (error == EEXIST)
        Py_RETURN_FALSE;
    errno = error;
    return PyErr_SetFromErrnoWithFilename(PyExc_OSError, path);
}

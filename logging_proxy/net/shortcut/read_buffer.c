/* The read buffer for the next piece of a counted body (`Direction.read_buffer`). */

#include "shortcut.h"

/* Size of the next piece; 0 if Python has to choose it, -1 with an exception. */
static long long
next_size(FastPath *self, long long read_size)
{
    long long ahead;
    int empty = has_empty_queue((Sender *)self->send);
    if (empty != 1)
        return empty;
    if (read_size > self->least && unreceived((Sender *)self->send) >= read_size)
        return 0; /* the sink applies back-pressure: Python makes the pieces smaller */
    if (get_number(self->counted, name.ahead, &ahead) < 0)
        return -1;
    long long size = read_size < ahead - 1 ? read_size : ahead - 1;
    return size < self->least ? 0 : size;
}

PyObject *
read_buffer_of(FastPath *self)
{
    long long read_size;
    int hold = preconditions_hold(self);
    if (hold != 1 || get_number(self->direction, name._read_size, &read_size) < 0)
        return NULL;
    long long size = next_size(self, read_size);
    if (size <= 0)
        return NULL;
    return self->writing == Py_None ? PySequence_GetSlice(self->shared, 0, size)
                                    : read_buffer_in_ring((Writing *)self->writing, self->least, size);
}

int
grow_read_size(FastPath *self)
{
    long long read_size;
    if (get_number(self->direction, name._read_size, &read_size) < 0)
        return -1;
    return set_number(self->direction, name._read_size, 2 * read_size < self->largest ? 2 * read_size : self->largest);
}

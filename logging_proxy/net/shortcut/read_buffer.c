/* The read buffer for the next piece of a counted body (`Direction.landing`). */

#include "shortcut.h"

/* Size of the next piece; 0 if Python has to choose it, -1 with an exception. */
static long long
next_size(Passage *self, long long stride)
{
    long long ahead;
    int empty = has_empty_queue((Sender *)self->send);
    if (empty != 1)
        return empty;
    if (stride > self->least && unreceived((Sender *)self->send) >= stride)
        return 0; /* the sink applies back-pressure: Python makes the pieces smaller */
    if (get_number(self->counted, name.ahead, &ahead) < 0)
        return -1;
    long long size = stride < ahead - 1 ? stride : ahead - 1;
    return size < self->least ? 0 : size;
}

PyObject *
read_buffer_of(Passage *self)
{
    long long stride;
    int usual = is_usual(self);
    if (usual != 1 || get_number(self->direction, name._stride, &stride) < 0)
        return NULL;
    long long size = next_size(self, stride);
    if (size <= 0)
        return NULL;
    return self->writing == Py_None ? PySequence_GetSlice(self->shared, 0, size)
                                    : read_buffer_in_ring((Writing *)self->writing, self->least, size);
}

int
grow_read_size(Passage *self)
{
    long long stride;
    if (get_number(self->direction, name._stride, &stride) < 0)
        return -1;
    return set_number(self->direction, name._stride, 2 * stride < self->largest ? 2 * stride : self->largest);
}

// NumPy's arrays, by NumPy's own header: asked for DLPack, as nanobind would, an array takes longer to come in
// than a small layer's step.
#pragma once

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <nanobind/nanobind.h>
#include <numpy/arrayobject.h>

#include <algorithm>
#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

#include "arena.hpp"

namespace throughtime {

// float, double, or for any other T NumPy's index type.
template <class T>
constexpr int TYPE = std::is_same_v<T, float> ? NPY_FLOAT : std::is_same_v<T, double> ? NPY_DOUBLE : NPY_INTP;

class Array {
  public:
    Array() = default;
    explicit Array(nanobind::handle object) : array_(reinterpret_cast<PyArrayObject *>(object.ptr())) {}

    std::size_t ndim() const { return static_cast<std::size_t>(PyArray_NDIM(array_)); }
    std::ptrdiff_t shape(std::size_t axis) const { return PyArray_DIM(array_, static_cast<int>(axis)); }
    std::ptrdiff_t size() const { return PyArray_SIZE(array_); }
    template <class T> bool holds() const {
        const int type = PyArray_TYPE(array_);
        return (type == TYPE<T> || PyArray_EquivTypenums(type, TYPE<T>)) && PyArray_ISNOTSWAPPED(array_);
    }

  protected:
    PyArrayObject *array_ = nullptr;
};

// An array that is read. It is copied if it is not in C order, and always if it holds indices: these are
// checked before they are used without the GIL, when another thread could write to the caller's.
class Read : public Array {
  public:
    using Array::Array;

    bool in_order() const { return true; }

    // Copies, which may fail; not to be called by the caster, which may not throw, nor without the GIL.
    template <class T> const T *data() const {
        constexpr bool always = TYPE<T> == NPY_INTP;
        if (!copy_.is_valid() && (always || !PyArray_ISCARRAY_RO(array_))) {
            constexpr int order = NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED;
            constexpr int plain = NPY_ARRAY_ENSUREARRAY;  // no code of a subclass runs
            constexpr int copied = always ? NPY_ARRAY_ENSURECOPY : 0;
            PyObject *const laid =
                PyArray_FROM_OF(reinterpret_cast<PyObject *>(array_), order | plain | copied);
            if (!laid) throw nanobind::python_error();
            copy_ = nanobind::steal(laid);
        }
        const auto *const read =
            copy_.is_valid() ? reinterpret_cast<const PyArrayObject *>(copy_.ptr()) : array_;
        return static_cast<const T *>(PyArray_DATA(read));
    }

  private:
    mutable nanobind::object copy_;
};

// An array that is written to. It is never copied, since what was written to a copy would be lost.
class Written : public Array {
  public:
    using Array::Array;

    bool in_order() const { return PyArray_ISCARRAY(array_); }
    template <class T> T *data() const { return static_cast<T *>(PyArray_DATA(array_)); }
};

// An array (T, B, N) whose memory comes from the engine's, and goes back there with the array: a large one
// need not be asked from the system, page by page, in every call.
template <class T> nanobind::object empty(npy_intp steps, npy_intp batch, npy_intp size) {
    npy_intp bytes = sizeof(T);
    for (npy_intp count : {steps, batch, size}) {
        if (count < 0) throw nanobind::value_error("empty: expected sizes of at least 0, got a negative one");
        if (__builtin_mul_overflow(bytes, std::max<npy_intp>(count, 1), &bytes)) throw std::bad_alloc();
    }
    auto *block = new Arena::Block(Arena::borrow(static_cast<std::size_t>(bytes)));
    nanobind::capsule owner(block, [](void *kept) noexcept {
        auto *own = static_cast<Arena::Block *>(kept);
        Arena::give_back(*own);
        delete own;
    });
    const npy_intp shape[] = {steps, batch, size};
    nanobind::object array =
        nanobind::steal(PyArray_New(&PyArray_Type, 3, shape, TYPE<T>, nullptr, block->memory, 0,
                                    NPY_ARRAY_CARRAY, nullptr));
    if (!array.is_valid()) throw nanobind::python_error();
    if (PyArray_SetBaseObject(reinterpret_cast<PyArrayObject *>(array.ptr()), owner.release().ptr()) < 0)
        throw nanobind::python_error();
    return array;
}

}  // namespace throughtime

namespace nanobind::detail {

template <class A> struct array_caster {
    NB_TYPE_CASTER(A, const_name("numpy.ndarray"))

    bool from_python(handle source, std::uint8_t, cleanup_list *) {
        if (!PyArray_Check(source.ptr())) return false;
        value = A(source);
        return true;
    }
};
template <> struct type_caster<throughtime::Read> : array_caster<throughtime::Read> {};
template <> struct type_caster<throughtime::Written> : array_caster<throughtime::Written> {};

}  // namespace nanobind::detail

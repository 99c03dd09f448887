#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <memory>
#include <utility>

namespace llm_proxy {

class LaneInbox;

// A strong reference used where the GIL is held from birth to death: locals of lane code.
class PyOwned {
 public:
  PyOwned() = default;
  // Takes over a reference the caller owns (what a "new reference" API returned, or null).
  static PyOwned steal(PyObject* object) { return PyOwned(object); }
  static PyOwned share(PyObject* object) {
    Py_XINCREF(object);
    return PyOwned(object);
  }
  PyOwned(PyOwned&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  PyOwned& operator=(PyOwned&& other) noexcept {
    PyObject* old = std::exchange(object_, std::exchange(other.object_, nullptr));
    Py_XDECREF(old);
    return *this;
  }
  ~PyOwned() { Py_XDECREF(object_); }

  PyObject* get() const { return object_; }
  PyObject* release() { return std::exchange(object_, nullptr); }
  void reset() { *this = PyOwned(); }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  explicit PyOwned(PyObject* object) : object_(object) {}

  PyObject* object_ = nullptr;
};

// A strong reference that C++ objects of any thread may hold. Made and read on the lane; moved and
// dropped anywhere: off the lane a drop only queues the decref, so that no io thread ever needs the
// GIL.
class PyRef {
 public:
  PyRef() = default;
  PyRef(PyOwned object, std::shared_ptr<LaneInbox> inbox)
      : object_(object.release()), inbox_(std::move(inbox)) {}
  PyRef(PyRef&& other) noexcept
      : object_(std::exchange(other.object_, nullptr)), inbox_(std::move(other.inbox_)) {}
  PyRef& operator=(PyRef&& other) noexcept {
    if (this != &other) {
      drop();
      object_ = std::exchange(other.object_, nullptr);
      inbox_ = std::move(other.inbox_);
    }
    return *this;
  }
  ~PyRef() { drop(); }

  // Lane only. Borrowed.
  PyObject* get() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }
  void drop() noexcept;

 private:
  PyObject* object_ = nullptr;
  std::shared_ptr<LaneInbox> inbox_;
};

}  // namespace llm_proxy

#pragma once

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/byte_buffer.h"
#include "base/callback.h"
#include "net/peer_socket.h"

namespace llm_proxy {

using ErrorCode = boost::system::error_code;
using BytesHandler = Callback<void(ErrorCode, std::string_view)>;
using BufferHandler = Callback<void(ErrorCode, ByteBuffer)>;
using WriteHandler = Callback<void(ErrorCode)>;

// A connected socket, plain or TLS: bytes in, bytes out, both at once.
//
// Held by a StreamPtr; lives on one worker. After close(), reset() or the end of its StreamPtr no
// handler is called any more and no buffer is touched, so handlers may capture a plain `this` of
// the owner. Handlers are never called from within the function that took them; they may read,
// write, close or destroy the stream.
//
//   open ─► half-closed (shutdown_write) ─► closed
class ByteStream : public boost::intrusive_ref_counter<ByteStream, boost::thread_unsafe_counter> {
 public:
  virtual ~ByteStream() = default;

  // Reads what there is, at least one byte, into the worker's scratch (up to 64 KB): no buffer is
  // held while waiting. The bytes are gone when the handler returns. End of stream is the error
  // is_eof(), without bytes.
  //
  // One read at a time, which may stay pending through any number of writes: that is how a peer's
  // leaving is seen. A second read while reading() is a defect of the caller. It is dropped with
  // its handler and never touches memory; the connection is cut, and the pending read ends with
  // the error already_started.
  virtual void read_scratch(BytesHandler done) = 0;
  // Reads at most `most` bytes (at least one) to the back of `buffer`. The buffer belongs to the
  // read until the handler is given it back, with what came before an error. So that nobody else
  // can free or fill it meanwhile, it is passed by value; cancel_read() and close() free it.
  virtual void read_into(ByteBuffer buffer, std::size_t most, BufferHandler done) = 0;
  // Forgets the pending read with its buffer; its handler is not called. The next read then costs
  // no system call to arm.
  virtual void cancel_read() = 0;
  virtual bool reading() const = 0;

  // Writes all pieces, with one system call if the kernel takes them. True: done already, and
  // `done` will not be called. False: `done` is called when everything is written or an error
  // stopped it; until then, or until the stream is closed, the bytes (not the span) must stay.
  // One write at a time: a second one while writing() is dropped and cuts the connection, as a
  // second read does.
  [[nodiscard]] virtual bool write(std::span<const std::string_view> pieces, WriteHandler done) = 0;
  // The same for bytes that will not stay, such as the scratch of a read: what the kernel does not
  // take is copied.
  [[nodiscard]] virtual bool write_copied(std::span<const std::string_view> pieces,
                                          WriteHandler done) = 0;
  virtual bool writing() const = 0;
  // Bytes of the pending write that the kernel has not taken yet; 0 while not writing().
  virtual std::size_t unsent() const = 0;

  // ---- After the peer has ended its direction.

  // What has become of the peer's socket. A few system calls.
  virtual PeerSocket peer_socket() const = 0;
  // Calls `refused` once if the connection is reset, which no read tells any more: a peer that has
  // closed its socket resets it when something is written to it. Once in the life of a stream.
  virtual void when_refused(Callback<void()> refused) = 0;

  // Sends FIN (TLS: close_notify first) and goes on reading: how to end when the peer may still be
  // sending.
  virtual void shutdown_write() = 0;
  // Ends at once; what is written still goes out.
  virtual void close() = 0;
  // Ends at once with a RST: the peer sees an error, never a clean end.
  virtual void reset() = 0;
  virtual bool is_open() const = 0;

  // True: in the middle of a reply that comes in events, of which one may wait a little when there
  // are many such streams (see StreamLane). False, as it begins: at once.
  virtual void set_streaming(bool streaming) = 0;

  // Nothing to read and the peer has not left: an idle connection that may be used again. One
  // system call.
  virtual bool quiet() = 0;

  // "203.0.113.7", without the port; asked of the kernel at accept or connect.
  virtual std::string peer_address() const = 0;
};

// The peer ended its direction properly (for TLS: with close_notify).
bool is_eof(const ErrorCode& error);

struct StreamCloser {
  void operator()(ByteStream* stream) const {
    stream->close();
    intrusive_ptr_release(stream);
  }
};

// The one owner of a stream: closes it.
using StreamPtr = std::unique_ptr<ByteStream, StreamCloser>;

template <typename Stream, typename... Args>
StreamPtr make_stream(Args&&... args) {
  ByteStream* stream = new Stream(std::forward<Args>(args)...);
  intrusive_ptr_add_ref(stream);
  return StreamPtr(stream);
}

}  // namespace llm_proxy

#pragma once

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "net/byte_stream.h"
#include "net/worker.h"

namespace llm_proxy {

using Tcp = boost::asio::ip::tcp;
using Socket = boost::asio::basic_stream_socket<Tcp, IoExecutor>;

// A ByteStream on a non-blocking TCP socket; plain here, TLS in the class that overrides the
// transfers.
//
// Bytes move by our own calls when the socket is ready, so that waiting needs no buffer and a write
// that the kernel takes at once needs no trip through the loop. Asio only tells when to try again.
class SocketStream : public ByteStream, private StreamLane::Member {
 public:
  // TCP_NODELAY is set here.
  SocketStream(Worker& worker, Socket socket, Tcp::endpoint peer);

  void read_scratch(BytesHandler done) override;
  void read_into(ByteBuffer buffer, std::size_t most, BufferHandler done) override;
  void cancel_read() override;
  bool reading() const override { return bytes_done_ || buffer_done_; }
  bool write(std::span<const std::string_view> pieces, WriteHandler done) override;
  bool write_copied(std::span<const std::string_view> pieces, WriteHandler done) override;
  bool writing() const override { return static_cast<bool>(write_done_); }
  std::size_t unsent() const override;
  PeerSocket peer_socket() const override { return find_peer_socket(fd_); }
  void when_refused(Callback<void()> refused) override;
  void shutdown_write() override;
  void close() override;
  void reset() override;
  bool is_open() const override { return !closed_; }
  void set_streaming(bool streaming) override;
  bool quiet() override;
  std::string peer_address() const override { return peer_.address().to_string(); }

  // For a layer on top (TLS after a CONNECT): the socket, with nothing pending; the stream is
  // closed afterwards.
  Socket release_socket();
  const Tcp::endpoint& peer() const { return peer_; }

 protected:
  enum class Progress : std::uint8_t { some, want_read, want_write, failed };
  struct Transfer {
    Progress progress = Progress::some;
    std::size_t bytes = 0;
    ErrorCode error;
  };

  // One attempt, without blocking. `send` may take less than it was given.
  virtual Transfer receive(std::span<char> into);
  virtual Transfer send(std::span<const std::string_view> pieces);
  // Bytes were taken from the socket that no read has been given yet: waiting for the socket would
  // be in vain.
  virtual bool has_buffered() const { return false; }
  // Says goodbye, if the protocol has a word for it.
  virtual void say_goodbye() {}

  // Calls `go_on` once the socket is ready for what `progress` wants, unless the stream is closed
  // by then.
  template <typename GoOn>
  void when_ready(Progress progress, GoOn go_on);

  int fd() const { return fd_; }
  Worker& worker() { return worker_; }
  bool closed() const { return closed_; }

 private:
  bool may_begin(bool busy);
  void arm_read();
  void wait_to_read(Progress progress);
  bool wait_in_lane();
  bool enter_lane();
  void leave_lane();
  void on_lane_ready() override;
  void close_socket();
  bool was_reset() const;
  void wait_for_reset();
  void on_readable();
  Transfer receive_next(std::span<char> into);
  void deliver(const Transfer& got, std::span<const char> into);
  bool start_write(std::span<const std::string_view> pieces, bool copy, WriteHandler done);
  void on_writable();
  void advance(std::size_t bytes);
  void finish_write(ErrorCode error);

  Worker& worker_;
  Socket socket_;  // open unless closed_ or in_lane_
  const int fd_;
  const Tcp::endpoint peer_;
  bool closed_ = false;

  bool streaming_ = false;
  bool in_lane_ = false;       // the loop does not know the socket: the worker's lane does
  bool lane_watches_ = false;  // not while nobody reads

  bool read_waiting_ = false;  // the loop will call on_readable()
  bool in_on_readable_ = false;
  bool drained_ = true;        // the last receive found nothing more
  bool misused_ = false;       // two reads or two writes at once: the pending one fails
  BytesHandler bytes_done_;    // of a pending read_scratch()
  BufferHandler buffer_done_;  // of a pending read_into(), and what it reads to
  ByteBuffer buffer_;
  std::size_t most_ = 0;

  std::vector<std::string_view> pending_;  // what is left of the write under way
  std::size_t next_piece_ = 0;
  std::string copied_;
  WriteHandler write_done_;

  Callback<void()> refused_;
};

template <typename GoOn>
void SocketStream::when_ready(Progress progress, GoOn go_on) {
  const auto what = progress == Progress::want_write ? Socket::wait_write : Socket::wait_read;
  socket_.async_wait(what, [self = boost::intrusive_ptr<SocketStream>(this),
                            go_on = std::move(go_on)](const ErrorCode&) mutable {
    // An error of the wait is one the transfer will meet itself.
    if (!self->closed_) go_on();
  });
}

}  // namespace llm_proxy

#include "net/socket_stream.h"

#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <utility>

#include "base/log.h"

namespace llm_proxy {
namespace {

constexpr std::size_t kMaxPieces = 32;       // of one system call
constexpr int kMaxTurns = 8;                 // reads of one stream before the others have a turn
constexpr std::size_t kKeptCapacity = 8192;  // of the copy buffer between writes

ErrorCode last_error() {
  return {errno, boost::system::system_category()};
}

bool would_block() {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

}  // namespace

bool is_eof(const ErrorCode& error) {
  return error == boost::asio::error::eof;
}

SocketStream::SocketStream(Worker& worker, Socket socket, Tcp::endpoint peer)
    : worker_(worker),
      socket_(std::move(socket)),
      fd_(socket_.native_handle()),
      peer_(std::move(peer)) {
  ErrorCode ignored;  // a socket that is dead already says so when it is read
  socket_.non_blocking(true, ignored);
  socket_.set_option(Tcp::no_delay(true), ignored);
}

void SocketStream::read_scratch(BytesHandler done) {
  if (!may_begin(reading())) return;
  bytes_done_ = std::move(done);
  arm_read();
}

void SocketStream::read_into(ByteBuffer buffer, std::size_t most, BufferHandler done) {
  if (!may_begin(reading())) return;
  buffer_ = std::move(buffer);
  most_ = most;
  buffer_done_ = std::move(done);
  arm_read();
}

void SocketStream::cancel_read() {
  bytes_done_ = nullptr;
  buffer_done_ = nullptr;
  buffer_.release();
  most_ = 0;
}

// `busy`: one of its kind is pending. Checked in every build: what a second one would do to the
// first one's memory and order is worse than a lost connection.
bool SocketStream::may_begin(bool busy) {
  if (closed_) return false;
  if (!busy) return true;
  log(LogLevel::error, "defect: two reads or two writes at once on a connection; it is cut");
  misused_ = true;
  ::shutdown(fd_, SHUT_RDWR);  // the pending operation wakes up
  return false;
}

void SocketStream::arm_read() {
  if (closed_ || read_waiting_ || in_on_readable_) return;
  if (drained_ || !has_buffered()) return wait_to_read(Progress::want_read);
  read_waiting_ = true;
  boost::asio::post(socket_.get_executor(), [self = boost::intrusive_ptr<SocketStream>(this)] {
    self->read_waiting_ = false;
    self->on_readable();
  });
}

void SocketStream::wait_to_read(Progress progress) {
  read_waiting_ = true;
  if (progress == Progress::want_read && wait_in_lane()) return;
  leave_lane();
  when_ready(progress, [this] {
    read_waiting_ = false;
    on_readable();
  });
}

bool SocketStream::wait_in_lane() {
  if (!in_lane_ && !enter_lane()) return false;
  if (!lane_watches_) lane_watches_ = worker_.stream_lane().add(fd_, *this);
  return lane_watches_;
}

// Takes the socket from the loop, which would wake up for it otherwise.
bool SocketStream::enter_lane() {
  if (!streaming_ || writing() || !worker_.stream_lane().crowded()) return false;
  ErrorCode error;
  socket_.release(error);
  in_lane_ = !error;
  return in_lane_;
}

void SocketStream::leave_lane() {
  if (!in_lane_) return;
  if (std::exchange(lane_watches_, false)) worker_.stream_lane().remove(fd_, *this);
  in_lane_ = false;
  ErrorCode error;
  socket_.assign(peer_.protocol(), fd_, error);
  // The loop has no room for it: whoever reads is told that the stream has ended.
  if (error) ::shutdown(fd_, SHUT_RDWR);
}

void SocketStream::on_lane_ready() {
  const boost::intrusive_ptr<SocketStream> self(this);
  if (!reading()) {  // it would be called for ever
    lane_watches_ = false;
    worker_.stream_lane().remove(fd_, *this);
    read_waiting_ = false;
    return;
  }
  read_waiting_ = false;
  on_readable();
}

void SocketStream::set_streaming(bool streaming) {
  if (closed_ || streaming == streaming_) return;
  streaming_ = streaming;
  if (streaming) return worker_.stream_lane().opened();
  worker_.stream_lane().ended();
  if (!in_lane_) return;
  leave_lane();
  if (read_waiting_) wait_to_read(Progress::want_read);
}

void SocketStream::on_readable() {
  in_on_readable_ = true;
  for (int turn = 1; !closed_ && reading(); ++turn) {
    const std::span<char> into =
        bytes_done_ ? worker_.scratch() : buffer_.prepare(most_).first(most_);
    const Transfer got = receive_next(into);
    drained_ = got.progress == Progress::want_read;
    if (got.progress == Progress::want_read || got.progress == Progress::want_write) {
      in_on_readable_ = false;
      return wait_to_read(got.progress);
    }
    deliver(got, into);
    const bool more_likely = got.bytes == into.size() || (!closed_ && has_buffered());
    if (!more_likely || turn == kMaxTurns) break;
  }
  in_on_readable_ = false;
  if (reading()) arm_read();
}

SocketStream::Transfer SocketStream::receive_next(std::span<char> into) {
  if (misused_) return {Progress::failed, 0, boost::asio::error::already_started};
  return receive(into);
}

// The read is over before its handler runs: the handler may begin the next one.
void SocketStream::deliver(const Transfer& got, std::span<const char> into) {
  if (bytes_done_) {
    BytesHandler done = std::exchange(bytes_done_, nullptr);
    done(got.error, {into.data(), got.bytes});
  } else {
    buffer_.commit(got.bytes);
    ByteBuffer buffer = std::move(buffer_);
    BufferHandler done = std::exchange(buffer_done_, nullptr);
    done(got.error, std::move(buffer));
  }
}

bool SocketStream::write(std::span<const std::string_view> pieces, WriteHandler done) {
  return start_write(pieces, false, std::move(done));
}

bool SocketStream::write_copied(std::span<const std::string_view> pieces, WriteHandler done) {
  return start_write(pieces, true, std::move(done));
}

bool SocketStream::start_write(std::span<const std::string_view> pieces, bool copy,
                               WriteHandler done) {
  std::size_t total = 0;
  for (const std::string_view piece : pieces) total += piece.size();
  if (total == 0) return true;
  if (!may_begin(writing())) return false;
  const Transfer sent = send(pieces);
  if (sent.bytes == total) return true;
  write_done_ = std::move(done);
  pending_.assign(pieces.begin(), pieces.end());
  next_piece_ = 0;
  advance(sent.bytes);
  if (copy) {
    copied_.clear();
    for (std::size_t i = next_piece_; i < pending_.size(); ++i) copied_ += pending_[i];
    pending_.assign(1, copied_);
    next_piece_ = 0;
  }
  if (sent.progress == Progress::failed) {
    boost::asio::post(socket_.get_executor(),
                      [self = boost::intrusive_ptr<SocketStream>(this), error = sent.error] {
                        if (self->write_done_) self->finish_write(error);
                      });
  } else {
    if (in_lane_) {
      leave_lane();
      if (read_waiting_) wait_to_read(Progress::want_read);
    }
    when_ready(sent.progress == Progress::some ? Progress::want_write : sent.progress,
               [this] { on_writable(); });
  }
  return false;
}

void SocketStream::on_writable() {
  while (next_piece_ < pending_.size()) {
    const Transfer sent = send(std::span(pending_).subspan(next_piece_));
    if (sent.progress == Progress::failed) return finish_write(sent.error);
    if (sent.progress != Progress::some)
      return when_ready(sent.progress, [this] { on_writable(); });
    advance(sent.bytes);
  }
  finish_write({});
}

void SocketStream::advance(std::size_t bytes) {
  while (next_piece_ < pending_.size() && bytes >= pending_[next_piece_].size()) {
    bytes -= pending_[next_piece_++].size();
  }
  if (bytes > 0) pending_[next_piece_].remove_prefix(bytes);
}

void SocketStream::finish_write(ErrorCode error) {
  pending_.clear();
  copied_.clear();
  if (copied_.capacity() > kKeptCapacity) copied_.shrink_to_fit();
  WriteHandler done = std::exchange(write_done_, nullptr);
  done(error);
}

std::size_t SocketStream::unsent() const {
  std::size_t bytes = 0;
  for (std::size_t i = next_piece_; i < pending_.size(); ++i) bytes += pending_[i].size();
  return bytes;
}

void SocketStream::when_refused(Callback<void()> refused) {
  if (closed_ || refused_) return;
  refused_ = std::move(refused);
  if (in_lane_) {
    leave_lane();
    if (read_waiting_) wait_to_read(Progress::want_read);
  }
  wait_for_reset();
}

bool SocketStream::was_reset() const {
  tcp_info info{};
  socklen_t size = sizeof info;
  return ::getsockopt(fd_, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
         info.tcpi_state == TCP_CLOSE;
}

void SocketStream::wait_for_reset() {
  socket_.async_wait(Socket::wait_error,
                     [self = boost::intrusive_ptr<SocketStream>(this)](const ErrorCode& error) {
                       if (self->closed_ || !self->refused_) return;
                       // Urgent data wakes it up as well.
                       if (!error && !self->was_reset()) return self->wait_for_reset();
                       std::exchange(self->refused_, nullptr)();
                     });
}

void SocketStream::shutdown_write() {
  if (closed_) return;
  say_goodbye();
  ::shutdown(fd_, SHUT_WR);
}

void SocketStream::close() {
  if (closed_) return;
  say_goodbye();
  close_socket();
}

void SocketStream::reset() {
  if (closed_) return;
  const linger at_once{1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close_socket();
}

void SocketStream::close_socket() {
  if (std::exchange(streaming_, false)) worker_.stream_lane().ended();
  closed_ = true;
  cancel_read();
  write_done_ = nullptr;
  refused_ = nullptr;
  if (in_lane_) {
    if (std::exchange(lane_watches_, false)) worker_.stream_lane().remove(fd_, *this);
    in_lane_ = false;
  }
  ErrorCode ignored;
  if (socket_.is_open()) {
    socket_.close(ignored);
  } else {
    ::close(fd_);
  }
}

bool SocketStream::quiet() {
  char byte = 0;
  return !closed_ && ::recv(fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && would_block();
}

Socket SocketStream::release_socket() {
  set_streaming(false);
  closed_ = true;
  cancel_read();
  write_done_ = nullptr;
  return std::move(socket_);
}

SocketStream::Transfer SocketStream::receive(std::span<char> into) {
  const ssize_t got = ::recv(fd(), into.data(), into.size(), 0);
  if (got > 0) return {Progress::some, static_cast<std::size_t>(got), {}};
  if (got == 0) return {Progress::failed, 0, boost::asio::error::eof};
  if (would_block()) return {Progress::want_read, 0, {}};
  return {Progress::failed, 0, last_error()};
}

SocketStream::Transfer SocketStream::send(std::span<const std::string_view> pieces) {
  std::array<iovec, kMaxPieces> vectors;
  std::size_t used = 0;
  for (const std::string_view piece : pieces) {
    if (piece.empty()) continue;
    if (used == vectors.size()) break;
    vectors[used++] = {const_cast<char*>(piece.data()), piece.size()};
  }
  msghdr message{};
  message.msg_iov = vectors.data();
  message.msg_iovlen = used;
  const ssize_t sent = ::sendmsg(fd(), &message, MSG_NOSIGNAL);
  if (sent >= 0) return {Progress::some, static_cast<std::size_t>(sent), {}};
  if (would_block()) return {Progress::want_write, 0, {}};
  return {Progress::failed, 0, last_error()};
}

}  // namespace llm_proxy

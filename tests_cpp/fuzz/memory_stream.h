#pragma once

#include <algorithm>
#include <boost/asio/error.hpp>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/byte_stream.h"
#include "net/worker.h"

namespace llm_proxy::fuzz {

// A ByteStream without a socket: what a peer says, takes and does is told by the fuzz target.
//
// Stricter than a socket, so that a sanitizer sees more. The bytes of a scratch read lie in a block
// of exactly their size that is freed when the handler returns; bytes of a pending write are looked
// at when the peer takes them, and not before. Two reads or two writes at once end the process.
//
// Held by the engine's StreamPtr and by the fuzz target; lives on the worker.
class MemoryStream final : public ByteStream {
 public:
  static constexpr std::size_t kEndless = std::numeric_limits<std::size_t>::max();
  static constexpr std::size_t kMaxHeard = 1u << 20;

  // `local`: the engine can see what has become of the peer's socket.
  explicit MemoryStream(Worker& worker, bool local = true) : worker_(worker), local_(local) {}

  // ---- The peer's side.

  void say(std::string_view bytes) {
    if (ended_ || incoming_.size() > (1u << 20)) return;
    incoming_ += bytes;
    wake_reader();
  }
  // Ends its direction and goes on reading.
  void finish() {
    ended_ = true;
    wake_reader();
  }
  // Closes its socket: what is written from now on meets a reset.
  void leave() {
    finish();
    deaf_ = left_ = true;
    wake_writer();
  }
  void cut() {
    cut_ = ended_ = deaf_ = left_ = true;
    wake_reader();
    wake_writer();
    refuse();
  }
  // What it has taken, at least the last of it.
  const std::string& heard() const { return heard_; }
  // From now on takes so many bytes.
  void allow(std::size_t bytes) {
    window_ = bytes;
    wake_writer();
  }

  // ---- The engine's side.

  void read_scratch(BytesHandler done) override {
    begin(reading());
    if (closed_) return;
    bytes_done_ = std::move(done);
    wake_reader();
  }
  void read_into(ByteBuffer buffer, std::size_t most, BufferHandler done) override {
    begin(reading());
    if (most == 0) std::abort();
    if (closed_) return;
    buffer_ = std::move(buffer);
    most_ = most;
    buffer_done_ = std::move(done);
    wake_reader();
  }
  void cancel_read() override {
    bytes_done_ = nullptr;
    buffer_done_ = nullptr;
    buffer_.release();
  }
  bool reading() const override { return bytes_done_ || buffer_done_; }

  bool write(std::span<const std::string_view> pieces, WriteHandler done) override {
    return start_write(pieces, false, std::move(done));
  }
  bool write_copied(std::span<const std::string_view> pieces, WriteHandler done) override {
    return start_write(pieces, true, std::move(done));
  }
  bool writing() const override { return static_cast<bool>(write_done_); }
  std::size_t unsent() const override {
    std::size_t bytes = 0;
    for (const auto piece : pending_) bytes += piece.size();
    return bytes;
  }
  PeerSocket peer_socket() const override {
    if (!local_) return PeerSocket::unseen;
    return left_ ? PeerSocket::closed : PeerSocket::held;
  }
  void when_refused(Callback<void()> refused) override {
    if (!refused_) refused_ = std::move(refused);
  }

  void shutdown_write() override { deaf_ = true; }
  void close() override {
    closed_ = true;
    cancel_read();
    write_done_ = nullptr;
    refused_ = nullptr;
    pending_.clear();
  }
  void reset() override { close(); }
  bool is_open() const override { return !closed_; }
  void set_streaming(bool) override {}
  bool quiet() override { return !closed_ && incoming_.empty() && !ended_; }
  std::string peer_address() const override { return "203.0.113.7"; }

 private:
  using Self = boost::intrusive_ptr<MemoryStream>;

  void begin(bool busy) const {
    if (busy) std::abort();
  }

  void wake_reader() {
    if (closed_ || !reading() || read_posted_ || (incoming_.empty() && !ended_)) return;
    read_posted_ = true;
    worker_.post([self = Self(this)] {
      self->read_posted_ = false;
      self->deliver();
    });
  }

  void deliver() {
    if (closed_ || !reading() || (incoming_.empty() && !ended_)) return;
    ErrorCode error;
    if (cut_) {
      error = boost::asio::error::connection_reset;
      incoming_.clear();
    } else if (incoming_.empty()) {
      error = boost::asio::error::eof;
    }
    const std::size_t most = bytes_done_ ? Worker::kScratchBytes : most_;
    const std::size_t size = std::min(incoming_.size(), most);
    if (bytes_done_) {
      const std::unique_ptr<char[]> scratch(new char[size]);
      std::memcpy(scratch.get(), incoming_.data(), size);
      incoming_.erase(0, size);
      BytesHandler done = std::exchange(bytes_done_, nullptr);
      done(error, {scratch.get(), size});
    } else {
      buffer_.append(std::string_view(incoming_).substr(0, size));
      incoming_.erase(0, size);
      ByteBuffer buffer = std::move(buffer_);
      BufferHandler done = std::exchange(buffer_done_, nullptr);
      done(error, std::move(buffer));
    }
  }

  bool start_write(std::span<const std::string_view> pieces, bool copy, WriteHandler done) {
    std::size_t total = 0;
    for (const auto piece : pieces) total += piece.size();
    if (total == 0) return true;
    begin(writing());
    if (closed_) return false;
    pending_.assign(pieces.begin(), pieces.end());
    if (left_) refuse();
    if (take() && !deaf_) return true;
    if (copy) {
      copied_.clear();
      for (const auto piece : pending_) copied_ += piece;
      pending_.assign(1, copied_);
    }
    write_done_ = std::move(done);
    wake_writer();
    return false;
  }

  void refuse() {
    if (closed_ || !refused_) return;
    worker_.post([self = Self(this)] {
      if (self->closed_ || !self->refused_) return;
      std::exchange(self->refused_, nullptr)();
    });
  }

  // Looks at every byte that the peer takes. True: nothing is left.
  bool take() {
    while (!pending_.empty() && window_ > 0 && !deaf_) {
      auto& piece = pending_.front();
      const std::size_t size = std::min(piece.size(), window_);
      if (heard_.size() > kMaxHeard) heard_.clear();
      heard_ += piece.substr(0, size);
      piece.remove_prefix(size);
      if (window_ != kEndless) window_ -= size;
      if (piece.empty()) pending_.erase(pending_.begin());
    }
    return pending_.empty();
  }

  void wake_writer() {
    if (closed_ || !writing() || write_posted_) return;
    write_posted_ = true;
    worker_.post([self = Self(this)] {
      self->write_posted_ = false;
      self->go_on_writing();
    });
  }

  void go_on_writing() {
    if (closed_ || !writing()) return;
    const bool failed = deaf_;
    if (!failed && !take()) return;
    pending_.clear();
    WriteHandler done = std::exchange(write_done_, nullptr);
    done(failed ? boost::asio::error::connection_reset : ErrorCode());
  }

  Worker& worker_;
  const bool local_;
  bool closed_ = false;
  bool left_ = false;   // the peer has closed its socket
  bool ended_ = false;  // the peer says nothing more
  bool deaf_ = false;   // the peer takes nothing more, or we have ended our direction
  bool cut_ = false;

  std::string incoming_;
  bool read_posted_ = false;
  BytesHandler bytes_done_;
  BufferHandler buffer_done_;
  ByteBuffer buffer_;
  std::size_t most_ = 0;

  std::size_t window_ = kEndless;
  bool write_posted_ = false;
  std::vector<std::string_view> pending_;
  std::string copied_;
  WriteHandler write_done_;
  std::string heard_;

  Callback<void()> refused_;
};

}  // namespace llm_proxy::fuzz

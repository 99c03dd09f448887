#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/bounded_buffer.h"
#include "base/deadline_list.h"
#include "http/chunked_decoder.h"
#include "http/content_encoding.h"
#include "http/head.h"
#include "net/upstream_pool.h"
#include "server/worker_context.h"
#include "upstream/upstream_call.h"

namespace llm_proxy {

// What is sent to an upstream. The body is pieces of memory that outlive the call, so that a splice
// copies nothing: the exchange owns them (the session's request, a lane's splices and encoded body)
// and changes none of them before it has cancelled or dropped the call, which closes the connection
// and with it a write that is still pending. SideCall owns its body itself.
struct UpstreamRequest {
  std::string method = "POST";         // GET has no body
  const HttpTarget* target = nullptr;  // of the snapshot, which the exchange holds
  std::string path;                    // with query
  std::string fields;                  // header lines but Host, framing and Connection
  std::array<std::string_view, 5> body;
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds silence{0};  // the backend's own limit; 0: the configuration's
};

// One HTTP request to one upstream: connection from the pool, one gathered write, the reply's
// framing taken off.
//
// Owned by its exchange; lives on its worker. A reused connection that dies before the first byte
// of a reply is replaced by a fresh one, once, unseen. Bytes beyond the reply's end close the
// connection. A compressed reply is decoded in slices, with the worker's other work in between:
// a few bytes of it can be many.
//
//   connecting ─► awaiting_head ─► body ─► done          any ─► done (failure, cancel)
class HttpCall final : public UpstreamCall {
 public:
  HttpCall(WorkerContext& context, ReplySink& sink, UpstreamRequest request);
  ~HttpCall() override;

  void start();
  void resume() override;
  void cancel() override;

 private:
  enum class State : std::uint8_t { connecting, awaiting_head, body, done };
  static constexpr int kMaxInterim = 8;
  static constexpr std::size_t kMaxHead = 64u << 10;
  static constexpr std::size_t kDecodedTurn = 64u << 10;  // bytes that one slice gives at most

  void connect();
  void send(Connection connection);
  void read();
  void on_read(const ErrorCode& error, std::string_view bytes);
  void on_head_bytes(std::string_view bytes);
  void on_head(std::string_view rest);
  void on_body_bytes(std::string_view bytes);
  Result<std::string_view> next_payload(std::string_view& bytes);
  bool deliver(std::string_view payload);
  void begin_decoding(std::string_view bytes);
  void decode();
  void decode_later();
  void on_turn();
  void on_closed(const ErrorCode& error);
  void complete(bool reusable);
  void fail(ErrorKind kind, std::string message);
  void fail(Error error);
  std::string where() const;
  void await_bytes();

  WorkerContext& context_;
  ReplySink* sink_;  // null once done or cancelled: one that is buried touches its owner no more
  UpstreamRequest request_;
  State state_ = State::connecting;
  std::optional<Connection> connection_;
  ConnectTicket ticket_;
  Deadline deadline_;
  std::string head_text_;
  BoundedBuffer head_bytes_{kMaxHead + Worker::kScratchBytes};  // of a head that came in pieces
  ReplyHead head_;
  std::uint64_t left_ = 0;
  std::optional<ChunkedDecoder> chunks_;
  std::unique_ptr<ContentDecoder> decoder_;
  BoundedBuffer unread_{kMaxHead + Worker::kScratchBytes};  // read, and not yet decoded all
  std::string_view raw_;                                    // what of `unread_` is still framed
  std::string_view coded_;       // the payload being decoded, in `unread_`
  bool decoding_ = false;        // there is more in `unread_`
  std::shared_ptr<void> alive_;  // while a slice waits for its turn
  int interim_ = 0;
  bool retried_ = false;
  bool heard_ = false;  // a byte of the reply has come
  bool paused_ = false;
  bool ended_ = false;  // the body is complete; waits for the sink
  bool reusable_ = false;
};

}  // namespace llm_proxy

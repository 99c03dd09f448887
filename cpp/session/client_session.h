#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/byte_buffer.h"
#include "base/deadline_list.h"
#include "config/endpoints.h"
#include "http/chunked_decoder.h"
#include "http/head.h"
#include "net/byte_stream.h"
#include "server/worker_context.h"
#include "session/request_body.h"

namespace llm_proxy {

class Exchange;

// A client's request, complete. Lives as long as its exchange.
struct ClientRequest {
  RequestHead head;  // views into the session's buffer
  FrontendMatch frontend;
  RequestBody body;  // content codings taken off
  std::string peer;  // the client's address without port, as far as trusted proxies tell it
  std::string key;   // the credential it came with, if any; a secret
  // Whose its stored responses, conversations, sessions and cached replies are: the key it was let
  // in with, "\0address " and its address if it was let in by that, the key as sent where none is
  // asked for (behind a trusted proxy: with its address). Holds a secret.
  std::string owner;
  bool admin = false;  // may change things through the admin API
};

// One client connection: reads requests one after the other, writes what their exchange answers.
//
// Owned by its WorkerContext, lives on one worker. While an exchange is under way a read stays
// pending, so that a client's leaving is seen in every phase. A client that ends its direction and
// waits for its answer gets it: see on_finished().
//
//   reading_head ─► reading_body ─► (decoding) ─► exchanging ─► reading_head (keep-alive)
//        └───────────────┴───────────────┴────────────┴───────► lingering ─► closed
class ClientSession {
 public:
  using Place = std::list<std::shared_ptr<ClientSession>>::iterator;

  // `anthropic`: the client came in at the port that has Anthropic's API alone.
  ClientSession(WorkerContext& context, StreamPtr stream, bool anthropic = false);
  ~ClientSession();

  void start();
  // The server stops: ends now if idle, else after the exchange under way.
  void drain() {
    keep_alive_ = false;
    if (state_ == State::reading_head && in_.empty()) close();
  }
  // The server waits no longer: an exchange under way ends with its format's error, everything else
  // ends now. What the client does not read in time is cut().
  void stop();
  // Cuts the connection now.
  void cut();
  // The context has another snapshot: one that waits for its next request lets go of the old.
  void renew() {
    if (state_ == State::reading_head && in_.empty()) snapshot_ = context_.snapshot();
  }

  // Where the context keeps this session.
  void set_place(Place place) { place_ = place; }
  Place place() const { return place_; }

  // ---- For the exchange: its reply. `fields` are header lines ("name: value\r\n"…); framing and
  // connection are ours.

  void send_whole(int status, std::string_view content_type, std::string_view fields,
                  std::string body);
  void begin_stream(int status, std::string_view content_type, std::string_view fields);
  // Takes `bytes`, gives back an empty string. True: go on; false: Exchange::on_written() follows.
  // They leave when this turn of the loop ends.
  bool write_stream(std::string& bytes);
  // Ends the stream behind `bytes`. Not clean: the framing is left open and the connection closed.
  void end_stream(std::string& bytes, bool clean);

  // From the context, once after flush_at_turn_end().
  void on_turn_end();

  WorkerContext& context() { return context_; }
  ClientRequest& request() { return request_; }
  std::uint64_t reply_bytes() const { return reply_bytes_; }

 private:
  enum class State : std::uint8_t {
    reading_head,
    reading_body,
    decoding,
    exchanging,
    lingering,
    closed
  };

  void read();
  void on_read(const ErrorCode& error, std::string_view bytes);
  void on_gone();
  void on_finished();
  void look_for_client();
  bool probe_client();
  void parse_head();
  void on_head(std::size_t size);
  Result<void> admit();
  Result<void> authorize();
  Result<void> admit_without_key();
  Result<void> refuse_key();
  bool is_administrator() const;
  bool is_trusted() const;
  void read_body();
  std::uint64_t body_left() const;
  void on_body_bytes(std::string_view bytes);
  bool keeps_pace(std::size_t bytes, TimePoint since, std::chrono::milliseconds least) const;
  void note_body(std::size_t bytes);
  bool body_is_too_slow();
  void refuse_late_request();
  void send_continue();
  void on_body_complete();
  void decode_body(ContentEncoding encoding);
  bool decode_slice();
  void refuse_body(const Error& error);
  std::string_view client_name() const;
  void begin_exchange();
  void refuse(const Error& error);
  void write_head(int status, std::string_view content_type, std::string_view fields);
  bool flush();
  void on_slow_write();
  void on_flushed(const ErrorCode& error);
  void after_flush();
  void finish_exchange();
  void next_request();
  void linger();
  void close();
  void on_deadline();

  WorkerContext& context_;
  StreamPtr stream_;
  const bool anthropic_;
  std::string connected_;   // the address at the other end of the connection
  bool forwarded_ = false;  // the request came through a proxy that is not a trusted one
  Place place_;
  State state_ = State::reading_head;
  std::shared_ptr<const Snapshot> snapshot_;  // of the request being read
  Deadline deadline_;

  ByteBuffer in_;          // read and not yet parsed
  ByteBuffer head_bytes_;  // the head of the request under way
  ClientRequest request_;
  std::optional<ChunkedDecoder> chunks_;
  TimePoint pace_since_{};      // of the body that comes, or of the write under way
  std::size_t pace_bytes_ = 0;  // of the body: read since; of the write: unsent then
  bool finished_ = false;       // the client has ended its direction and says nothing more
  Deadline watch_;              // whether such a client is still there
  std::uint64_t lingered_ = 0;
  std::shared_ptr<Exchange> exchange_;

  // The reply: what waits to be written, and what is being written.
  std::string reply_head_;
  std::string queued_;
  std::string chunk_head_;
  std::string sending_head_;
  std::string sending_;
  bool chunked_ = false;
  bool ended_ = false;
  bool end_written_ = false;
  bool clean_ = true;
  bool notify_ = false;  // the exchange waits for on_written()
  bool keep_alive_ = true;
  bool reply_begun_ = false;
  std::uint64_t reply_bytes_ = 0;
};

}  // namespace llm_proxy

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/callback.h"
#include "base/result.h"
#include "base/worker_post.h"
#include "rings/ring.h"
#include "rings/stream_text.h"

namespace llm_proxy {

// The seam between an exchange and the ring plugins. The engine sees only what is here;
// cpp/python/py_rings implements it for Python. Plugins see one shape, OpenAI chat, whatever the
// frontend speaks: the exchange gives chat JSON and takes chat JSON back.

using RingHeaders = std::vector<std::pair<std::string, std::string>>;

// What is known of an exchange when its first ring runs.
struct RingRequest {
  std::string body;  // OpenAI chat JSON; parsed only if a plugin reads it, whatever the ring
  std::string request_id;
  std::string session_id;   // empty: none known
  std::string client_host;  // "127.0.0.1"
  std::string method = "POST";
  std::string path;      // as the client wrote it, with its query
  std::string frontend;  // name(WireFormat)
  std::string key_hash;  // stable hash that names the client, never its key; empty: it sent none
  RingHeaders headers;   // the client's, names in lower case, credentials removed
  // "generate", "count_tokens", "embeddings", "completions", "stored": what plugins read in
  // metadata["_operation"]. A chat completion can answer the first alone.
  std::string_view operation = "generate";  // a literal
  bool generates() const { return operation == "generate"; }
};

// What a chain asks the exchange to do. `proceed` is by far the most frequent and allocates
// nothing.
struct RingVerdict {
  enum class Kind : std::uint8_t {
    proceed,  // go on; the body is untouched, the raw path stays open
    replace,  // go on with `body`
    block,    // answer the client with `status`, `type`, `message` in the error shape of its format
    answer,   // answer the client with `status`, `headers`, `body`: a cached reply. No upstream is
              // asked
  };

  Kind kind = Kind::proceed;
  // replace: a whole chat request (request rings), or a whole reply body (reply ring). answer: a
  // reply body.
  std::string body;
  // replace of a request: where each message of `body` stood in the request the chain was given, if
  // it is the same value; kNew if a plugin wrote or changed it. A frontend of another format takes
  // the unchanged ones from its source.
  static constexpr std::int32_t kNew = -1;
  std::vector<std::int32_t> messages_from;
  // replace of a request: the other top-level keys that were added, changed or removed.
  std::vector<std::string> changed_keys;

  // Of a request: what its plugins put in the place of values, which a streamed reply gets back.
  Placeholders placeholders;

  int status = 200;
  RingHeaders
      headers;  // answer; replace of a reply: what a plugin added or changed, names in lower case
  std::string type;     // block: "plugin_block", "rate_limited"; for the client's error body
  std::string message;  // block: for the client
  std::string plugin;   // who decided; for the ledger
  Ring ring = Ring::ingress;
};

// A reply on its way to the client.
struct RingReply {
  int status = 200;
  std::string fields;     // what the client will see, each line with its CRLF
  std::string body;       // OpenAI chat: a completion. A stream's is assembled from its events
  bool streamed = false;  // the body has gone to the client event by event, but for its end: only
                          // `block` can still be heard
  // Seconds from the request's arrival; negative: unknown.
  double duration = -1;
  double first_token = -1;
};

// What the reply ring's plugins do to streams.
struct StreamRules {
  bool hold_all = false;   // one may replace a streamed reply: nothing goes on before it has spoken
  bool cut_loops = false;  // a reply that repeats itself without end is cut
  bool hear = false;       // one hears the text as it comes
};

// How an exchange ended, for the background ring.
struct RingOutcome {
  int status = 200;
  std::string backend;             // instance name; empty: none was asked
  std::string model;               // as asked upstream
  std::optional<RingReply> reply;  // set unless the reply ring has just seen it
  std::int64_t input_tokens = -1;  // negative: unknown
  std::int64_t output_tokens = -1;
  double duration = -1;     // seconds
  double upstream = -1;     // of these, from the first attempt to the reply's end
  double first_token = -1;  // of a stream, from the request's arrival
};

// The rings' memory of one exchange: the context that plugins share from ring to ring. It pins its
// generation.
//
// Held by the exchange; may outlive it (a background plugin) and be dropped on any thread. Every
// function is called on the exchange's worker, and every `done` is called there, at once or later,
// at most once, never after cancel().
//
//   opened ─► request rings ─► reply ring ─► background        (each at most once, in this order,
//   any may be left out)
class RingSession {
 public:
  using Done = Callback<void(RingVerdict&&)>;

  virtual ~RingSession() = default;

  // Whether plugins can be shown this request: its shape and its limits, before any plugin runs.
  // malformed_request, for the client. Once, before anything else.
  virtual Result<void> check_request() = 0;
  // Rings 1-3 as one job.
  virtual void run_request(Done done) = 0;
  // The next text of a streamed reply, for who hears it before ring 4; one at a time. Only `block`
  // is heard.
  virtual void run_chunk(std::string, Done done) { done({}); }
  // Ring 4.
  virtual void run_reply(RingReply reply, Done done) = 0;
  // Ring 5; nobody waits for it. Called for every exchange, plugins or not: its last word.
  virtual void run_background(RingOutcome outcome) = 0;

  // How long the exchange should wait for the `done` of this ring's chain before it asks for
  // overdue(): what the plugins may use together for a body of `bytes`, and a margin for a busy
  // interpreter. One of a few values.
  virtual std::chrono::milliseconds patience(Ring ring, std::size_t bytes) const = 0;
  // Whether the interpreter is busy with a plugin that is within its own limit, this exchange's or
  // another's: who waits for it should wait on, for it goes on or is interrupted.
  virtual bool is_busy() const = 0;
  // The chain did not answer in time (a plugin blocks the interpreter): gives up on it, its late
  // verdict is dropped, and says what the fail policies of its plugins ask for, block or proceed.
  virtual RingVerdict overdue(Ring ring) = 0;

  // The client is gone or the exchange failed: running plugins are cancelled, `done` is dropped.
  // Background still runs.
  virtual void cancel() = 0;
};

// One generation of rings: immutable once published (Server::set_rings), shared by the exchanges
// that began with it. Its functions may be called on any worker.
class RingHost {
 public:
  virtual ~RingHost() = default;

  // Which rings hold a plugin. Empty, or only rings this exchange does not need: do not open a
  // session.
  RingSet rings() const { return rings_; }
  const StreamRules& stream_rules() const { return stream_rules_; }
  // Which rings hold a plugin that guards: one whose failure refuses the exchange (fail-closed).
  RingSet guards() const { return guards_; }
  // `worker` outlives the session's last `done`.
  virtual std::shared_ptr<RingSession> open(RingRequest request, WorkerPost& worker) = 0;

 protected:
  explicit RingHost(RingSet rings, StreamRules rules = {}, RingSet guards = {})
      : rings_(rings), guards_(guards), stream_rules_(rules) {}

 private:
  const RingSet rings_;
  const RingSet guards_;
  const StreamRules stream_rules_;
};

}  // namespace llm_proxy

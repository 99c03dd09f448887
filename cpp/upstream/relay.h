#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/bounded_buffer.h"
#include "base/clock.h"
#include "base/memory_budget.h"
#include "formats/cumulative_text.h"
#include "formats/format.h"
#include "http/sse_reader.h"
#include "json/array_reader.h"
#include "model/events.h"
#include "model/reply_meter.h"
#include "stores/seal_store.h"
#include "upstream/upstream_call.h"

namespace llm_proxy {

// What a relay asks of the exchange it works for. Everything on the exchange's worker.
class RelayOwner {
 public:
  virtual ~RelayOwner() = default;

  // Nothing has reached the client and nothing of this reply will: another upstream may be tried.
  // `verbatim`: the upstream's own error body when the client speaks the same format; empty: encode
  // `error`.
  virtual void on_attempt_failed(Error error, UpstreamHead head, std::string verbatim) = 0;

  // A complete reply. `head.fields` are passed on.
  virtual void on_whole_reply(const UpstreamHead& head, std::string content_type,
                              std::string body) = 0;

  // The commit point of a stream: from here on nothing is retried.
  virtual void on_stream_commit(const UpstreamHead& head, std::string_view content_type) = 0;
  // Writes `bytes` (moved from; given back empty, with its capacity). True: written or buffered,
  // read on; false: the owner calls the upstream's resume() later.
  virtual bool write_stream(std::string& bytes) = 0;
  // The stream is over: `bytes` are its last. `clean` false: the connection must not look well
  // ended.
  virtual void on_stream_end(std::string& bytes, bool clean) = 0;
  // After the commit point: what went wrong, for the log.
  virtual void note_error(const Error& error) = 0;
  virtual void note_usage(const Usage& usage) = 0;
  virtual void note_finish(std::string_view word) = 0;
};

// Carries one upstream's reply to the client. Two kinds: RawRelay passes bytes and watches,
// TranslatingRelay decodes and encodes. This base owns what is the same: collecting whole replies,
// the commit point, the ending.
//
// Owned by the exchange, one per attempt; lives on its worker.
//
//   head ─► collecting (whole body) ─► done
//     └───► held (stream, nothing sent) ─► committed ─► done
//
// Bounds: a whole body is collected up to kMaxWhole, and so is what a translated reply makes us
// keep; a stream is held up to kMaxHeld bytes, then committed. Beyond a bound the attempt fails
// with upstream_too_large.
class Relay : public ReplySink {
 public:
  static constexpr std::size_t kMaxWhole = kMaxReply;
  static constexpr std::size_t kMaxHeld = 256u << 10;
  static constexpr std::size_t kMaxEvent = 32u << 20;

  Relay(RelayOwner& owner, const Format& upstream, const Format& client);

  void on_head(UpstreamHead head) override;
  void on_bytes(std::string_view payload) override;
  bool on_turn() override;
  void on_end() override;
  void on_failure(Error error) override;

  // After the commit point: the client has waited in silence and gets the format's keep-alive.
  // False: write_stream() said so.
  bool keep_alive();
  bool committed() const { return committed_; }
  bool streaming() const override { return committed_; }
  // What the reply holds of the memory from now on; before it begins.
  void charge_to(MemoryCharge charge) { charge_ = std::move(charge); }
  // What an error of this upstream must not show the client: the key it was asked with.
  void hide(std::string secret) { secret_ = std::move(secret); }

 protected:
  // A 2xx body is complete. Ok: `body` and `content_type` are what the client gets.
  virtual Result<void> transform_whole(std::string& body, std::string& content_type) = 0;
  // Bytes of a stream: appends to out_, sets meaningful_ / stream_error_.
  virtual void transform_stream(std::string_view payload) = 0;
  // The stream's body ended in order. An error unless its terminator was seen.
  virtual Result<void> transform_end() = 0;
  // Ends the client's stream with its own error event.
  virtual void append_stream_error(const Error& error) = 0;
  virtual void append_keep_alive() = 0;
  virtual std::string_view stream_content_type() const = 0;
  // Whether the reply with this head is passed on as it comes.
  virtual bool streams(const UpstreamHead& head) const { return head.event_stream; }
  // False: the client wants one whole body even when the upstream streams.
  virtual bool client_streams() const = 0;
  // Bytes that the reply makes us keep, beside a whole body.
  virtual std::size_t kept() const { return out_.size(); }

  RelayOwner& owner_;
  const Format& upstream_;
  const Format& client_;
  UpstreamHead head_;
  std::string out_;                    // for the client, not yet given to the owner
  bool meaningful_ = false;            // something a user would call output is in out_ or beyond
  std::optional<Error> stream_error_;  // the upstream said so inside its stream
  bool committed_ = false;
  bool rated_ = true;  // false: what failed in the upstream's own words goes to the client in them
  std::string secret_;

 private:
  enum class State : std::uint8_t { head, collecting, streaming, done };

  // Below it a reply is not worth counting: what a stream holds between two writes.
  static constexpr std::size_t kUncharged = 64u << 10;

  void commit();
  void fail(Error error);
  void finish_whole();
  void charge(std::size_t bytes);

  State state_ = State::head;
  BoundedBuffer body_{kMaxWhole};
  MemoryCharge charge_;
};

// Same format on both sides: events go on byte for byte as they came, an observer reads a copy.
// Only whole events go on, so that one no client could read can be left out.
class RawRelay final : public Relay {
 public:
  // `keep_usage_chunk` false: the client did not ask for the chunk that holds only usage, and does
  // not get it. `json_array`: a Gemini stream that was not asked for as server-sent events.
  // `answers` false: an endpoint whose replies are no answers of a model, as embeddings. `rated`
  // false: an error in a 200 is passed on as it came, for nobody would be asked instead.
  RawRelay(RelayOwner& owner, const Format& codec, bool keep_usage_chunk, bool json_array,
           bool answers, bool rated);

 private:
  Result<void> transform_whole(std::string& body, std::string& content_type) override;
  void transform_stream(std::string_view payload) override;
  Result<void> transform_end() override;
  void append_stream_error(const Error& error) override;
  void append_keep_alive() override;
  std::string_view stream_content_type() const override { return head_.content_type; }
  bool streams(const UpstreamHead& head) const override { return head.event_stream || array_; }
  bool client_streams() const override { return true; }
  std::size_t kept() const override { return out_.size() + event_bytes_.size(); }
  void transform_array(std::string_view payload);
  bool in_array() const { return array_ && !head_.event_stream; }
  bool observe(const SseEvent& event);
  void pass_comments();
  Result<void> rate(std::string_view body);

  std::unique_ptr<ReplyObserver> observer_;
  std::optional<JsonArrayReader> array_;
  SseReader reader_;
  BoundedBuffer event_bytes_{kMaxEvent};  // of the event under way, when it came in pieces
  bool keep_usage_chunk_, answers_;
  bool last_word_ = false;   // message_stop was seen
  bool open_event_ = false;  // the stream ended in an event that lacked its blank line
};

// Two formats: every event is decoded, and encoded anew. Also serves a client of the upstream's own
// format when a plugin must see the reply.
class TranslatingRelay final : public Relay, private EventSink {
 public:
  // `context` outlives the relay, and so does `seals`, which keeps the sealed thinking of `session`
  // for clients that do not send it back.
  TranslatingRelay(RelayOwner& owner, const Format& upstream, const Format& client,
                   const EncodeContext& context, bool stream, SealStore& seals, std::string session,
                   TimePoint now);

 private:
  Result<void> transform_whole(std::string& body, std::string& content_type) override;
  void transform_stream(std::string_view payload) override;
  Result<void> transform_end() override;
  void append_stream_error(const Error& error) override;
  void append_keep_alive() override;
  std::string_view stream_content_type() const override;
  bool client_streams() const override { return stream_; }
  std::size_t kept() const override { return out_.size() + meter_.kept(); }
  void on_event(const Event& event) override;
  EventSink& events() { return new_text_ ? static_cast<EventSink&>(*new_text_) : *this; }
  void take_output();
  void decode(const SseEvent& event);

  std::unique_ptr<ReplyDecoder> decoder_;
  std::unique_ptr<ReplyEncoder> encoder_;
  ReplyMeter meter_;                        // of what decoder, recorder and encoder keep
  SealRecorder recorder_;                   // in front of the encoder
  std::optional<CumulativeText> new_text_;  // in front of us, where the upstream needs it
  SseReader reader_;
  bool stream_;      // the client wants a stream
  bool json_array_;  // as the elements of one JSON array
};

}  // namespace llm_proxy

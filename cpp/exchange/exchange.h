#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/deadline_list.h"
#include "base/memory_budget.h"
#include "exchange/model_list.h"
#include "formats/format.h"
#include "ledger/record.h"
#include "model/request.h"
#include "rings/ring_host.h"
#include "routing/route_table.h"
#include "routing/session_store.h"
#include "session/client_session.h"
#include "stores/response_store.h"
#include "upstream/attempts.h"
#include "upstream/relay.h"
#include "upstream/side_call.h"
#include "upstream/upstream_call.h"

namespace llm_proxy {

class RingStream;
struct UpstreamRequest;

// One request and its reply, from the complete request to the access-log line.
//
// Owned by its ClientSession; a ring job may keep it alive after the client has gone. Lives on one
// worker.
//
//   started ─► ringed ─► attempting ─► replying ─► sent
//      │          │       │   ▲  │  └─► waiting ─┐
//      │          │       │   └──┴──────────────┘
//      └──────────┴───────┴─► failed ─► sent            (client gone: any ─► gone)
class Exchange final : public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(ClientSession& session, std::shared_ptr<const Snapshot> snapshot);
  ~Exchange();

  // The request is complete: answers it, now or later.
  void start();
  // The request cannot be taken: answers with this.
  void refuse(const Error& error);

  // ---- From the session.
  void on_client_gone();
  // The reply has begun: writes its format's sign of life, if it has one. Commits nothing.
  void on_keep_alive();
  // The server stops and has waited long enough: ends the reply with the format's error.
  void on_server_stops();
  void on_written();     // what write_stream() could not take at once is written
  void on_reply_sent();  // all of it

 private:
  static constexpr std::string_view kJson = "application/json";

  // One way to an answer: its attempts, one after the other, and the call under way. A race has
  // several, whoever has the first output stops the others; everything else has one.
  struct Lane final : RelayOwner {
    explicit Lane(Exchange& owner);

    void on_attempt_failed(Error error, UpstreamHead head, std::string verbatim) override;
    void on_whole_reply(const UpstreamHead& head, std::string content_type,
                        std::string body) override;
    void on_stream_commit(const UpstreamHead& head, std::string_view content_type) override;
    bool write_stream(std::string& bytes) override;
    void on_stream_end(std::string& bytes, bool clean) override;
    void note_error(const Error& error) override;
    void note_usage(const Usage& usage) override;
    void note_finish(std::string_view word) override;

    void stop();

    struct Failure {
      UpstreamHead head;
      std::string verbatim;
      bool same_format = false;
    };
    Exchange& exchange;
    std::optional<Attempts> attempts;
    std::size_t first_leg = 0;  // of the route's candidates
    bool asked = false;         // an attempt has begun
    bool over = false;          // it has given up, or another has won
    std::size_t leg = 0;        // of the attempt under way
    std::size_t key_index = 0;  // likewise
    std::string key;            // likewise; a secret
    int key_wait = 0;           // which wait for a hosted key is of interest
    Deadline key_late;          // of that wait
    bool key_renewed = false;   // a refused hosted key is renewed once
    std::optional<Failure> last_failure;
    TimePoint retry_at{};
    Deadline retry;
    TimePoint first_token_at{};
    Deadline first_token;
    Translation translation;
    EncodeContext encode_context;
    std::string encoded_body;
    std::array<std::string, 2> splices;
    std::unique_ptr<Relay> relay;
    std::shared_ptr<UpstreamCall> call;
  };

  // ---- From the lanes' relays.
  void on_attempt_failed(Error error, UpstreamHead head, std::string verbatim);
  void on_whole_reply(const UpstreamHead& head, std::string content_type, std::string body);
  void on_stream_commit(const UpstreamHead& head, std::string_view content_type);
  bool write_stream(std::string& bytes);
  void on_stream_end(std::string& bytes, bool clean);
  void note_error(const Error& error);
  void note_usage(const Usage& usage);
  void note_finish(std::string_view word);

  void generate();
  void relay_plain(std::string_view path);
  void dispatch_plain();
  void replace_plain(std::string chat_body);
  void count_tokens();
  bool ask_for_count();
  void ask_or_estimate();
  void estimate_count();
  void answer_count(std::int64_t tokens);
  void answer_stored();
  void show_stored();
  void ask_holder();
  void answer_stored_here();
  void on_stored_answer(SideCall::Answer answer);
  void answer_conversation();
  void keep_command_answer(std::string_view answer);
  void ask_beside(const Backend& backend, std::string_view method, std::string path,
                  std::string body, std::chrono::milliseconds patience,
                  std::function<void(SideCall::Answer)> done);
  std::string_view store_owner() const;  // whose stored responses and conversations are meant
  bool shares_provider_keys() const;
  Result<void> check_past(const ResponseTurn& turn) const;
  std::string_view past_keeper() const;
  void expand_past();
  void settle_past(const Backend& backend);
  void restore_past_names(WireFormat upstream);
  void keep_whole(int status, std::string_view body);
  void keep_stream(std::string_view bytes);
  void answer_models();
  void answer_model();
  void with_models(void (*use)(Exchange&, const std::vector<ListedModel>&));
  void answer_health();
  void answer_admin();
  void answer_diagnostics();
  void reactivate();

  bool has_rings() const;
  bool may_leave();
  bool pass_or_refuse(bool guarded, std::string_view what);
  bool shows_reply() const;
  void ask_rings(std::string view, void (Exchange::*then)());
  void arm_ring_deadline(Ring ring, std::size_t bytes);
  void on_rings_late();
  void clear_request();
  void run_request_rings(void (Exchange::*then)());
  void on_request_verdict(RingVerdict&& verdict);
  void on_reply_verdict(RingVerdict&& verdict);
  void on_stream_verdict(RingVerdict&& verdict);
  void replace_request(std::string chat_body);
  void send_block(const RingVerdict& verdict);
  Error error_of_block(const RingVerdict& verdict);
  std::optional<std::string> edit_of_client(std::string_view chat_body);
  void answer_from_ring(RingVerdict&& verdict);
  void open_ring_stream();
  void refuse_stream(const Error& error);
  bool take_commands();
  bool take_body(std::string body_left);
  void answer_command(const std::string& text);
  std::string routed_by();
  bool is_first_request();
  std::uint64_t identity(Affinity affinity);
  bool know_session(bool however);
  void dispatch();
  void dispatch_to(const std::string& selector);
  void begin_attempts();
  void add_legs(Lane& lane, std::size_t begin, std::size_t end);
  void begin_race();
  void win();
  bool leave_race();
  Exchange& enter(Lane& lane);
  void next_attempt();
  void attempt();
  void give_up();
  void on_retry_tick();
  void arm_first_token();
  void on_first_token_tick();
  void note_candidate();
  void note_losses();
  void note_attempt(std::string_view outcome);
  void drop_call();
  void attempt_echo(const Backend& backend);
  void attempt_http(const Backend& backend);
  void attempt_with_hosted_key(const Backend& backend);
  void attempt_hosted(const Backend& backend);
  Result<void> decode_request();
  void prepare_encoding();
  std::vector<std::pair<std::string, std::string>> client_headers(bool for_plugins = true) const;
  Result<void> encode_for(const Backend& backend, std::string& out);
  void set_raw_body(UpstreamRequest& request, const Candidate& candidate);
  CallParams params_for(const Candidate& candidate) const;
  bool asks_for_usage() const;
  std::string upstream_fields(const Backend& backend, bool same_format);
  std::unique_ptr<Relay> make_relay(const Backend& backend, bool keep_usage_chunk);

  void run_reply_ring(int status, std::string fields, std::string content_type, std::string body);
  void run_stream_ring();
  void tell_chunk();
  void on_chunk_verdict(const RingVerdict& verdict);
  void end_heard_stream();
  void ask_reply_ring(RingReply reply);
  void send_reply(int status, std::string_view fields, std::string_view content_type,
                  std::string body);
  void send_error(const Error& error, std::string_view fields = {}, std::string verbatim = {},
                  int verbatim_status = 0);
  void begin_stream(int status, std::string_view content_type, std::string_view fields);
  std::string reply_fields(std::string_view upstream_fields, bool same_format) const;
  std::optional<Error> charge_copies(std::size_t bytes);
  std::string body_as_chat(std::string_view client_body);
  void finish_rings();
  void finish_record();
  std::chrono::microseconds since_began() const;
  std::int64_t unix_now() const;

  // Where a ring plugin wrote a chat request, the frontend's own body is no longer the truth; and a
  // reply whose stream is made by us has no bytes to pass on.
  bool same_format(const Backend& backend) const {
    return backend.format == format_ && !replaced_request_ &&
           !(stream_ && (backend.quirks.whole_replies || backend.quirks.cumulative_text));
  }
  const Format& client_format() const { return format_of(format_); }
  std::string_view body() const;

  ClientSession* session_;  // null once the client has gone
  WorkerContext& context_;
  std::shared_ptr<const Snapshot> snapshot_;
  WireFormat format_;
  TimePoint began_;
  ExchangeRecord record_;

  RequestPeek peek_;
  bool stream_ = false;
  std::optional<std::string> without_commands_;  // the client's body, where it held some
  std::string commands_run_;                     // "model, temperature"
  SessionStore::Kind chat_kind_ = SessionStore::Kind::named;
  std::string chat_id_;                       // of the session, where somebody asked
  std::optional<SessionState> chat_;          // what its commands have set
  std::optional<std::string> replaced_body_;  // by a ring plugin, OpenAI chat
  std::unique_ptr<ResponseTurn> turn_;        // Responses: what it goes on from, what is kept
  std::optional<std::string> expanded_body_;  // the client's, with its past put in
  std::optional<Request> request_;            // decoded when something needs it
  std::optional<Request> replaced_request_;   // of replaced_body_
  Route route_;
  std::string_view plain_path_;  // embeddings and legacy completions: relayed as they are
  ResponseStore::Entry stored_;  // the response that the path names
  std::shared_ptr<SideCall> side_;
  Lane only_lane_;
  std::vector<std::unique_ptr<Lane>> racers_;  // instead of it
  Lane* lane_ = &only_lane_;                   // whose turn it is
  std::shared_ptr<void> admin_call_;
  bool head_sent_ = false;  // of a stream; by its commit or by a keep-alive before
  bool done_ = false;
  Deadline keep_alive_;

  std::shared_ptr<RingSession> ring_;
  bool cleared_ = false;                       // the rings have let the request pass
  void (Exchange::*after_rings_)() = nullptr;  // what comes then
  std::size_t ring_bytes_ = 0;                 // what the rings look at now
  int ring_waits_ = 0;                         // how often its deadline was put off
  Deadline ring_deadline_;
  Ring ring_running_ = Ring::ingress;
  bool ring_waiting_ = false;
  bool ring_hears_ = false;   // a plugin has a piece of the stream
  bool stream_told_ = false;  // no more pieces will come
  struct PendingReply {
    int status;
    std::string fields;
    std::string content_type;
    std::string body;
  };
  std::optional<PendingReply> pending_reply_;  // while the reply ring runs, and of a held stream
  std::optional<std::string> chat_reply_;  // for background, when the reply ring has not seen it
  bool reply_ring_ran_ = false;
  Placeholders placeholders_;
  std::unique_ptr<RingStream> ring_stream_;
  MemoryCharge copies_;       // of the bodies that Python is given
  MemoryCharge ring_charge_;  // of what ring_stream_ keeps
  bool stream_over_ = false;  // nothing of it is written any more
  std::chrono::microseconds first_output_{0};
  std::chrono::microseconds asked_{-1};     // the first attempt, since began_
  std::chrono::microseconds answered_{-1};  // the reply's end, likewise
};

}  // namespace llm_proxy

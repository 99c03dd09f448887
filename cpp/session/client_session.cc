#include "session/client_session.h"

#include <array>
#include <utility>

#include "auth/forwarding.h"
#include "auth/web_origin.h"
#include "base/recycling_allocator.h"
#include "exchange/exchange.h"
#include "http/content_encoding.h"
#include "http/head_writer.h"
#include "http/url.h"

namespace llm_proxy {
namespace {

constexpr std::size_t kMaxAhead = 64u << 10;  // bytes of a next request taken while one is answered
constexpr std::size_t kMaxTurn = 16u << 10;   // bytes of a stream that wait for the turn's end
constexpr std::uint64_t kMaxLinger =
    1u << 20;  // bytes thrown away so that a refusal is not lost in a reset
// How often a client that has ended its direction is looked for.
constexpr std::chrono::milliseconds kLook{1000};
constexpr std::uint64_t kDrainableBody =
    64u << 10;  // a refused body this small is read, and the connection kept
constexpr std::size_t kKeptCapacity =
    16u << 10;  // a buffer larger than this is given back between requests

bool has_body(const RequestHead& head) {
  return head.framing == Framing::chunked ||
         (head.framing == Framing::length && head.content_length > 0);
}

// The credential a request came with, wherever its client's SDK puts it.
std::string credential(const RequestHead& head) {
  const auto authorization = head.fields.value("authorization");
  if (authorization.size() > 7 && iequals(authorization.substr(0, 7), "bearer ")) {
    auto token = authorization.substr(7);
    while (token.starts_with(' ')) token.remove_prefix(1);
    return std::string(token);
  }
  for (const std::string_view name : {"x-api-key", "x-goog-api-key", "api-key"}) {
    if (const Field* field = head.fields.find(name)) return std::string(field->value);
  }
  return query_value(head.query, "key").value_or(std::string());
}

// A field that decides something and is given twice, which two readers could take differently.
Result<void> refuse_repeated_fields(const Fields& fields) {
  constexpr std::array<std::string_view, 22> kDecidingFields{"authorization",
                                                             "x-api-key",
                                                             "x-goog-api-key",
                                                             "api-key",
                                                             "content-type",
                                                             "content-encoding",
                                                             "origin",
                                                             "x-lip-route",
                                                             "anthropic-version",
                                                             "x-session-id",
                                                             "session-id",
                                                             "x-claude-code-session-id",
                                                             "session_id",
                                                             "thread-id",
                                                             "conversation_id",
                                                             "x-b2bua-session-id",
                                                             "x-expected-schema",
                                                             "access-control-request-method",
                                                             "user-agent",
                                                             "x-real-ip",
                                                             "proxy-authorization",
                                                             "expect"};
  std::uint32_t seen = 0;
  for (const auto& field : fields) {
    for (std::size_t i = 0; i < kDecidingFields.size(); ++i) {
      if (!iequals(field.name, kDecidingFields[i])) continue;
      if ((seen >> i) & 1u) {
        return Error{ErrorKind::malformed_request,
                     "the header field '" + std::string(kDecidingFields[i]) + "' is given twice"};
      }
      seen |= 1u << i;
    }
  }
  return {};
}

bool is_open_to_all(Operation operation) {
  return operation == Operation::health || operation == Operation::ready ||
         operation == Operation::hello || operation == Operation::preflight;
}

}  // namespace

ClientSession::ClientSession(WorkerContext& context, StreamPtr stream, bool anthropic)
    : context_(context),
      stream_(std::move(stream)),
      anthropic_(anthropic),
      deadline_([this] { on_deadline(); }),
      watch_([this] { look_for_client(); }) {}

// The stream goes before what it may still be writing.
ClientSession::~ClientSession() {
  stream_.reset();
}

void ClientSession::start() {
  connected_ = request_.peer = stream_->peer_address();
  next_request();
}

void ClientSession::stop() {
  if (state_ == State::lingering || ended_) return;  // it has its answer
  if (state_ != State::exchanging || !exchange_) return cut();
  const auto exchange = exchange_;
  exchange->on_server_stops();
}

void ClientSession::cut() {
  if (state_ == State::closed) return;
  if (exchange_) exchange_->on_client_gone();
  close();
}

// ---- reading

void ClientSession::next_request() {
  state_ = State::reading_head;
  request_.key.clear();
  request_.owner.clear();
  request_.body.clear();
  if (in_.capacity() > kKeptCapacity && in_.empty()) in_.release();
  reply_begun_ = ended_ = end_written_ = notify_ = chunked_ = false;
  clean_ = keep_alive_ = true;
  reply_bytes_ = 0;
  snapshot_ = context_.snapshot();
  if (in_.empty()) {
    context_.deadlines().client_idle->arm(deadline_);
    read();
  } else {
    // A pipelined request: looked at by a handler of its own, so that many of them do not nest.
    context_.deadlines().client_head->arm(deadline_);
    context_.worker().post([self = std::weak_ptr<ClientSession>(*place_)] {
      if (const auto session = self.lock(); session && session->state_ == State::reading_head)
        session->parse_head();
    });
  }
}

void ClientSession::read() {
  if (stream_->reading() || state_ == State::closed) return;
  if (finished_) {
    // Nothing more will come: what is not complete by now never is.
    if (state_ == State::exchanging) {
      context_.worker().deadlines(kLook).arm(watch_);
    } else if (state_ != State::decoding) {
      close();
    }
    return;
  }
  stream_->read_scratch([this](ErrorCode error, std::string_view bytes) { on_read(error, bytes); });
}

void ClientSession::on_read(const ErrorCode& error, std::string_view bytes) {
  context_.sweep();
  if (error) {
    const bool complete = state_ == State::exchanging || state_ == State::decoding;
    is_eof(error) && complete ? on_finished() : on_gone();
    return;
  }
  switch (state_) {
    case State::reading_head:
      if (in_.empty()) {
        snapshot_ = context_.snapshot();  // it may have changed while the connection was idle
        context_.deadlines().client_head->arm(deadline_);
      }
      in_.append(bytes);
      parse_head();
      break;
    case State::reading_body:
      note_body(bytes.size());
      on_body_bytes(bytes);
      break;
    case State::decoding:
    case State::exchanging:
      in_.append(bytes);
      // A client that sends on and on while it is answered is read no further until then. Only a
      // reset shows that it has left.
      if (in_.size() < kMaxAhead) {
        read();
      } else {
        stream_->when_refused([this] {
          context_.sweep();
          on_gone();
        });
      }
      break;
    case State::lingering:
      lingered_ += bytes.size();
      lingered_ > kMaxLinger ? close() : read();
      break;
    case State::closed:
      break;
  }
}

void ClientSession::on_gone() {
  if (exchange_) exchange_->on_client_gone();
  close();
}

// The client has ended its direction (FIN) while it is answered. Either it has shut that direction
// down and waits, or it has closed its socket and waits for nothing; only the second may cost it
// its answer, and the second must not cost a provider's tokens.
void ClientSession::on_finished() {
  finished_ = true;
  stream_->when_refused([this] {
    context_.sweep();
    on_gone();
  });
  look_for_client();
}

// The kernel knows about a client on this machine, at once and from then on by the second. One
// elsewhere is written to: a closed socket resets the connection.
void ClientSession::look_for_client() {
  if (state_ != State::exchanging) return;
  switch (stream_->peer_socket()) {
    case PeerSocket::closed:
      return on_gone();
    case PeerSocket::held:
      return context_.worker().deadlines(kLook).arm(watch_);
    case PeerSocket::unseen:
      if (!probe_client()) return on_gone();
      if (state_ == State::exchanging) context_.deadlines().keep_alive->arm(watch_);
      return;
  }
}

// Writes what means nothing to a client that still reads. False: there is no such thing to say.
bool ClientSession::probe_client() {
  if (stream_->writing()) return true;  // that will tell
  if (reply_begun_) {
    if (exchange_) exchange_->on_keep_alive();
    return true;
  }
  // RFC 9110, 15.2: every client of HTTP/1.1 takes interim replies, asked for or not.
  if (request_.head.version_minor < 1 || request_.head.method.empty()) return false;
  send_continue();
  return true;
}

void ClientSession::parse_head() {
  // The head is parsed where it stays: its views must outlive the exchange.
  head_bytes_.clear();
  head_bytes_.swap(in_);
  const HeadLimits limits{snapshot_->config->limits.head_bytes, 200};
  const auto size = parse_request_head(head_bytes_.view(), limits, request_.head);
  if (!size) {
    request_.frontend = {};
    keep_alive_ = false;
    refuse(size.error());
    return;
  }
  if (*size == 0) {
    request_.head = {};  // its views are of bytes that may move; a 408 must not look at them
    request_.frontend = {};
    head_bytes_.swap(in_);
    read();
    return;
  }
  on_head(*size);
}

void ClientSession::on_head(std::size_t size) {
  const auto& head = request_.head;
  const auto rest = head_bytes_.view().substr(size);
  const bool upgrade = !head.upgrade.empty();
  request_.frontend = anthropic_ ? match_anthropic(head.method, head.path, head.query, upgrade)
                                 : match_frontend(head.method, head.path, head.query, upgrade,
                                                  head.fields.find("anthropic-version") != nullptr);
  if (is_preflight(head, snapshot_->config->cors.allow_origins)) {
    request_.frontend.operation = Operation::preflight;
  }
  keep_alive_ = head.keep_alive && !context_.draining();
  chunks_.reset();
  if (head.framing == Framing::chunked) chunks_.emplace(ErrorKind::malformed_request);

  if (auto admitted = admit(); !admitted) {
    // A small body that is on its way is read to its end, so that the connection stays of use.
    if (has_body(head) &&
        (head.framing == Framing::chunked || head.content_length > kDrainableBody ||
         head.expect_continue || rest.size() < head.content_length)) {
      keep_alive_ = false;
    } else {
      in_.append(rest.substr(static_cast<std::size_t>(body_left())));
    }
    refuse(admitted.error());
    return;
  }
  request_.body.begin(snapshot_->config->limits.body_bytes,
                      MemoryCharge(context_.memory(), MemoryBudget::share_of(client_name())));
  if (!has_body(head)) {
    in_.append(rest);
    begin_exchange();
    return;
  }
  state_ = State::reading_body;
  pace_since_ = context_.worker().now();
  pace_bytes_ = 0;
  context_.deadlines().client_body->arm(deadline_);
  if (head.framing == Framing::length) request_.body.expect(static_cast<std::size_t>(body_left()));
  if (head.expect_continue && rest.empty()) {
    send_continue();
  }
  on_body_bytes(rest);
}

// Static bytes: nothing has to stay until they are written. A reply that was ready meanwhile
// follows them.
void ClientSession::send_continue() {
  static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  static constexpr std::array<std::string_view, 1> kPieces{kContinue};
  (void)stream_->write(kPieces, [this](ErrorCode error) {
    if (!error && reply_begun_) flush();
  });
}

// An admin's key, or, while there are no keys at all, the only user of this machine.
bool ClientSession::is_administrator() const {
  const auto& keys = snapshot_->admin_keys;
  if (!keys.empty()) return keys.contains(request_.key);
  return snapshot_->client_keys.empty() && from_this_machine(request_.head, connected_);
}

// An address that needs no key. What an unknown proxy passes on comes from anywhere.
bool ClientSession::is_trusted() const {
  return !forwarded_ && snapshot_->trusted.contains(request_.peer);
}

// Refuses a key that is not right, or none.
Result<void> ClientSession::refuse_key() {
  const auto& limits = snapshot_->config->auth.brute_force_protection;
  const auto now = context_.worker().now();
  auto& guard = *snapshot_->auth_guard;
  if (limits.enabled) {
    if (const auto wait = guard.blocked_for(request_.peer, now); wait.count() > 0) {
      guard.tried_while_blocked(request_.peer, now);
      Error error{ErrorKind::rate_limited,
                  "too many wrong keys came from this address: wait, then send one of the proxy's "
                  "API_KEYS"};
      error.code = "too_many_wrong_keys";
      error.retry_after = wait;
      return error;
    }
    guard.failed(request_.peer, request_.key, limits, now);
  }
  Error error{ErrorKind::unauthenticated,
              request_.key.empty()
                  ? "a key is needed: send Authorization: Bearer KEY, x-api-key or x-goog-api-key"
                  : "this key is not known here: use one of the proxy's API_KEYS"};
  error.code = "invalid_api_key";
  return error;
}

// Lets in a client that no key is asked of: it must have meant this proxy, and not be a page that a
// browser loaded from elsewhere. What tells nothing is open to pages too.
Result<void> ClientSession::admit_without_key() {
  const auto& head = request_.head;
  const auto& config = *snapshot_->config;
  if (!is_known_host(head, config.allowed_hosts)) {
    return Error{
        ErrorKind::forbidden,
        "the Host '" + std::string(head.authority.empty() ? head.host : head.authority) +
            "' is not a name of this proxy: use its address or localhost, list the name in "
            "allowed_hosts, or set API_KEYS"};
  }
  if (!is_open_to_all(request_.frontend.operation) &&
      from_foreign_page(head, config.cors.allow_origins)) {
    return Error{ErrorKind::forbidden,
                 "requests from web pages are refused while no client key is set: set API_KEYS, "
                 "or list the page's origin in cors.allow_origins"};
  }
  return {};
}

// Finds out who asks, and whether that client may.
Result<void> ClientSession::authorize() {
  const auto& head = request_.head;
  const auto operation = request_.frontend.operation;
  const auto& keys = snapshot_->client_keys;
  const auto now = context_.worker().now();
  const bool proxied = is_forwarded(head.fields);
  const bool from_trusted_proxy = proxied && snapshot_->trusted_proxies.contains(connected_);
  forwarded_ = proxied && !from_trusted_proxy;
  request_.peer = from_trusted_proxy
                      ? client_address(head.fields, connected_, snapshot_->trusted_proxies)
                      : connected_;
  request_.key = credential(head);
  request_.owner = request_.key;
  if (keys.empty() && from_trusted_proxy) {
    // Strangers to each other come through one proxy, and none of them has to have a key.
    request_.owner.assign("\0address ", 9).append(request_.peer).append(1, ' ');
    request_.owner += request_.key;
  }

  // A right key has to pass the guard too: an address may be blocked for others' wrong ones.
  const auto admits_key = [&] {
    return !snapshot_->config->auth.brute_force_protection.enabled ||
           snapshot_->auth_guard->admits(request_.peer, request_.key, now);
  };
  request_.admin = is_admin(operation) && is_administrator();
  if (request_.admin) {
    if (!snapshot_->admin_keys.empty() && !admits_key()) return refuse_key();
    return snapshot_->admin_keys.empty() ? admit_without_key() : Result<void>();
  }
  if (keys.empty()) {
    if (auto known = admit_without_key(); !known || is_open_to_all(operation)) return known;
    // The admin API of a proxy without client keys answers 401 itself; wrong keys count all the
    // same.
    if (is_admin(operation) && !snapshot_->admin_keys.empty() && !request_.key.empty()) {
      if (auto refused = refuse_key(); refused.error().kind == ErrorKind::rate_limited) {
        return refused;
      }
    }
    return {};
  }
  if (is_open_to_all(operation)) return {};
  if (keys.contains(request_.key)) return admits_key() ? Result<void>() : refuse_key();
  if (is_trusted()) {
    request_.owner.assign("\0address ", 9).append(request_.peer);
    return admit_without_key();
  }
  return refuse_key();
}

// What can be said before the body is read.
Result<void> ClientSession::admit() {
  const auto& head = request_.head;
  const auto& match = request_.frontend;
  const auto& config = *snapshot_->config;
  if (match.operation == Operation::websocket) {
    return Error{ErrorKind::upgrade_required, "WebSocket is not offered here: use HTTP"};
  }
  if (auto once = refuse_repeated_fields(head.fields); !once) return once;
  if (const auto twice = repeated_query_key(head.query); !twice.empty()) {
    return Error{ErrorKind::malformed_request,
                 "'" + std::string(twice) + "' is given twice in the query"};
  }
  if (auto allowed = authorize(); !allowed) return allowed;
  if (match.broken_model) {
    return Error{ErrorKind::malformed_request,
                 "the model's name in the path is not validly percent-encoded"};
  }
  if (head.fields.find(kLoopGuard) != nullptr) {
    Error error{ErrorKind::malformed_request,
                "this request has come through a proxy already, perhaps this one: a backend's "
                "api_url leads back here. To chain proxies on purpose, set loop_guard: false on "
                "the first one's backend"};
    error.status = 508;
    error.code = "proxy_loop";
    return error;
  }
  if (match.operation == Operation::none) {
    return Error{ErrorKind::not_found, nothing_at(head.path)};
  }
  if (match.operation == Operation::wrong_method) {
    return Error{ErrorKind::method_not_allowed,
                 std::string(head.method) + " is not offered at " + std::string(head.path)};
  }
  if (head.framing == Framing::length && head.content_length > config.limits.body_bytes) {
    return Error{
        ErrorKind::body_too_large,
        "the request body is larger than " + std::to_string(config.limits.body_bytes) + " bytes"};
  }
  return {};
}

void ClientSession::on_body_bytes(std::string_view bytes) {
  if (chunks_) {
    while (!bytes.empty() && !chunks_->done()) {
      const auto piece = chunks_->next(bytes);
      if (!piece) {
        keep_alive_ = false;
        refuse(piece.error());
        return;
      }
      if (const auto refused = request_.body.append(*piece)) return refuse_body(*refused);
    }
    in_.append(bytes);
    if (!chunks_->done()) {
      if (!body_is_too_slow()) read();
      return;
    }
  } else {
    const auto taken = bytes.substr(
        0, static_cast<std::size_t>(std::min<std::uint64_t>(body_left(), bytes.size())));
    if (const auto refused = request_.body.append(taken)) return refuse_body(*refused);
    in_.append(bytes.substr(taken.size()));
    if (body_left() > 0) {
      if (!body_is_too_slow()) read_body();
      return;
    }
  }
  on_body_complete();
}

// Whether `bytes` in the time since `since` are as fast as a client has to be. No time shorter than
// `least` is judged.
bool ClientSession::keeps_pace(std::size_t bytes, TimePoint since,
                               std::chrono::milliseconds least) const {
  const auto passed = context_.worker().now() - since;
  const std::chrono::duration<double> seconds = passed;
  return passed < least ||
         static_cast<double>(bytes) >= seconds.count() * snapshot_->config->limits.client_min_rate;
}

// More of the body has come: the client is not silent.
void ClientSession::note_body(std::size_t bytes) {
  pace_bytes_ += bytes;
  context_.deadlines().client_body->arm(deadline_);
}

// A body that drips would otherwise hold its connection and its buffer for as long as it likes.
// True: it was refused.
bool ClientSession::body_is_too_slow() {
  const auto window = snapshot_->config->timeouts.client_body;
  if (!keeps_pace(pace_bytes_, pace_since_, window)) {
    refuse_late_request();
    return true;
  }
  if (const auto now = context_.worker().now(); now - pace_since_ >= window) {
    pace_since_ = now;
    pace_bytes_ = 0;
  }
  return false;
}

void ClientSession::refuse_late_request() {
  keep_alive_ = false;
  stream_->cancel_read();
  refuse({ErrorKind::client_timeout, "the request did not arrive in time"});
}

// What is missing of a body of known length. Derived, so that it cannot disagree with the body.
std::uint64_t ClientSession::body_left() const {
  const auto& head = request_.head;
  if (head.framing != Framing::length || head.content_length <= request_.body.size()) return 0;
  return head.content_length - request_.body.size();
}

// Reads the rest of a body of known length straight to where it stays: the read owns the body
// until it gives it back.
void ClientSession::read_body() {
  // The read of the exchange before may still be pending. It brings the next bytes to on_read(),
  // and the one after it is a straight one.
  if (stream_->reading()) return;
  const auto left = static_cast<std::size_t>(body_left());
  const std::size_t before = request_.body.size();
  stream_->read_into(request_.body.lend(), left, [this, before](ErrorCode error, ByteBuffer body) {
    context_.sweep();
    const auto refused = request_.body.take_back(std::move(body));
    if (error) {
      on_gone();
      return;
    }
    if (refused) return refuse_body(*refused);
    note_body(request_.body.size() - before);
    if (body_left() == 0) return on_body_complete();
    if (!body_is_too_slow()) read_body();
  });
}

void ClientSession::on_body_complete() {
  if (const Field* field = request_.head.fields.find("content-encoding")) {
    const auto encoding = parse_content_encoding(field->value);
    if (!encoding) {
      refuse({ErrorKind::malformed_request, "content-encoding must be gzip, deflate, br or zstd"});
      return;
    }
    if (*encoding != ContentEncoding::identity) return decode_body(*encoding);
  }
  begin_exchange();
}

// A few bytes can be a large body: it is decoded in slices, and the worker's other connections are
// served in between.
void ClientSession::decode_body(ContentEncoding encoding) {
  state_ = State::decoding;
  deadline_.disarm();
  request_.body.begin_decoding(encoding);
  context_.counters().decoding.fetch_add(1, std::memory_order_relaxed);
  context_.slices().add([self = std::weak_ptr<ClientSession>(*place_), &context = context_] {
    const auto session = self.lock();
    const bool more = session && session->state_ == State::decoding && session->decode_slice();
    if (!more) context.counters().decoding.fetch_sub(1, std::memory_order_relaxed);
    return more;
  });
  read();  // the client's leaving ends it
}

// True: there is more.
bool ClientSession::decode_slice() {
  context_.sweep();
  context_.counters().slices.fetch_add(1, std::memory_order_relaxed);
  const auto more = request_.body.decode_slice();
  if (more && *more) return true;
  if (more) {
    begin_exchange();
  } else {
    request_.body.clear();
    refuse(more.error());
  }
  return false;
}

// What is still to come of the body is not read.
void ClientSession::refuse_body(const Error& error) {
  keep_alive_ = false;
  request_.body.clear();
  refuse(error);
}

// Whose share of the memory a request counts for. Without a key that was checked anybody could be
// anybody: then it is the address.
std::string_view ClientSession::client_name() const {
  const bool checked = !snapshot_->client_keys.empty() && !request_.owner.empty();
  return checked ? request_.owner : request_.peer;
}

void ClientSession::begin_exchange() {
  state_ = State::exchanging;
  deadline_.disarm();
  read();  // from here on the client's leaving is seen
  exchange_ = std::allocate_shared<Exchange>(RecyclingAllocator<Exchange>(), *this, snapshot_);
  const auto keep = exchange_;  // it may end, and be let go, before start() returns
  keep->start();
}

void ClientSession::refuse(const Error& error) {
  state_ = State::exchanging;
  deadline_.disarm();
  exchange_ = std::allocate_shared<Exchange>(RecyclingAllocator<Exchange>(), *this, snapshot_);
  const auto keep = exchange_;
  keep->refuse(error);
}

// ---- writing

void ClientSession::write_head(int status, std::string_view content_type, std::string_view fields) {
  reply_begun_ = true;
  HeadWriter writer(reply_head_);
  writer.status_line(status);
  if (!content_type.empty()) writer.field("content-type", content_type);
  writer.date(context_.worker().clock().unix_seconds());
  append_origin_fields(request_.head, snapshot_->config->cors.allow_origins, reply_head_);
  reply_head_ += fields;
}

void ClientSession::send_whole(int status, std::string_view content_type, std::string_view fields,
                               std::string body) {
  if (state_ != State::exchanging) return;
  write_head(status, content_type, fields);
  HeadWriter writer(reply_head_);
  writer.field("content-length", static_cast<std::uint64_t>(body.size()));
  if (!keep_alive_) writer.field("connection", "close");
  writer.end();
  if (request_.head.method != "HEAD") queued_ = std::move(body);
  chunked_ = false;
  ended_ = true;
  flush();
}

void ClientSession::begin_stream(int status, std::string_view content_type,
                                 std::string_view fields) {
  write_head(status, content_type, fields);
  HeadWriter writer(reply_head_);
  writer.field("cache-control", "no-cache").field("x-accel-buffering", "no");
  chunked_ = request_.head.version_minor >= 1;
  if (chunked_) {
    writer.field("transfer-encoding", "chunked");
  } else {
    keep_alive_ = false;
  }
  if (!keep_alive_) writer.field("connection", "close");
  writer.end();
}

bool ClientSession::write_stream(std::string& bytes) {
  if (state_ != State::exchanging) {
    bytes.clear();
    return true;
  }
  if (queued_.empty()) {
    queued_.swap(bytes);
  } else {
    queued_ += bytes;
    bytes.clear();
  }
  if (stream_->writing() || queued_.size() >= kMaxTurn) {
    notify_ = !flush();
    return !notify_;
  }
  context_.flush_at_turn_end(*this);
  return true;
}

void ClientSession::on_turn_end() {
  if (state_ == State::exchanging && !queued_.empty()) flush();
}

void ClientSession::end_stream(std::string& bytes, bool clean) {
  if (state_ != State::exchanging) return;
  queued_ += bytes;
  bytes.clear();
  ended_ = true;
  clean_ = clean;
  if (!clean) keep_alive_ = false;
  flush();
}

// One gathered write of all there is. True: written already. What is being written lies in members
// that nobody changes while the stream is writing().
bool ClientSession::flush() {
  if (stream_->writing()) return false;
  sending_head_.clear();
  sending_head_.swap(reply_head_);
  sending_.clear();
  sending_.swap(queued_);
  std::array<std::string_view, 5> pieces;
  std::size_t count = 0;
  if (!sending_head_.empty()) pieces[count++] = sending_head_;
  if (!sending_.empty()) {
    if (chunked_) {
      chunk_head_.clear();
      append_chunk_head(chunk_head_, sending_.size());
      pieces[count++] = chunk_head_;
    }
    pieces[count++] = sending_;
    if (chunked_) pieces[count++] = kChunkEnd;
  }
  end_written_ = ended_;
  if (ended_ && clean_ && chunked_) pieces[count++] = kLastChunk;
  if (count == 0) {
    after_flush();
    return true;
  }
  for (std::size_t i = 0; i < count; ++i) reply_bytes_ += pieces[i].size();
  if (stream_->write({pieces.data(), count}, [this](ErrorCode error) { on_flushed(error); })) {
    after_flush();
    return true;
  }
  pace_since_ = context_.worker().now();
  pace_bytes_ = stream_->unsent();
  context_.deadlines().client_write->arm(deadline_);
  return false;
}

// A write has been under way for `client_write`. A client that takes it, however slowly within
// reason, is given more time; one that drinks a byte a second is not.
void ClientSession::on_slow_write() {
  const std::size_t left = stream_->unsent();
  const std::size_t taken = pace_bytes_ > left ? pace_bytes_ - left : 0;
  if (!stream_->writing() || taken == 0 || !keeps_pace(taken, pace_since_, {})) return on_gone();
  pace_since_ = context_.worker().now();
  pace_bytes_ = left;
  context_.deadlines().client_write->arm(deadline_);
}

void ClientSession::on_flushed(const ErrorCode& error) {
  context_.sweep();
  deadline_.disarm();
  if (error) {
    on_gone();
    return;
  }
  // More came, or the end did, while this was under way.
  if (!queued_.empty() || (ended_ && !end_written_)) {
    flush();
  } else {
    after_flush();
  }
}

void ClientSession::after_flush() {
  if (end_written_) {
    finish_exchange();
  } else if (std::exchange(notify_, false) && exchange_) {
    exchange_->on_written();
  }
}

void ClientSession::finish_exchange() {
  if (exchange_) {
    exchange_->on_reply_sent();
    context_.bury(std::exchange(exchange_, nullptr));
  }
  if (!clean_) {
    // The framing stays open: no client may take this for an ending. Where a stream ends with its
    // connection (HTTP/1.0) only a reset says so.
    if (!chunked_) stream_->reset();
    close();
  } else if (!keep_alive_ || context_.draining() || (finished_ && in_.empty())) {
    linger();
  } else {
    next_request();
  }
}

// ---- ending

// A reply that goes out while the client still sends would be lost if the connection were reset:
// what comes is read and thrown away for a while.
void ClientSession::linger() {
  state_ = State::lingering;
  lingered_ = 0;
  stream_->shutdown_write();
  context_.worker().deadlines(std::chrono::milliseconds(1000)).arm(deadline_);
  read();
}

void ClientSession::close() {
  if (state_ == State::closed) return;
  state_ = State::closed;
  deadline_.disarm();
  watch_.disarm();
  stream_->close();
  if (exchange_) context_.bury(std::exchange(exchange_, nullptr));
  context_.retire(*this);
}

void ClientSession::on_deadline() {
  switch (state_) {
    case State::reading_head:
      if (in_.empty()) {
        close();
        break;
      }
      [[fallthrough]];
    case State::reading_body:
      refuse_late_request();
      break;
    case State::decoding:
      break;
    case State::exchanging:
      on_slow_write();
      break;
    case State::lingering:
      close();
      break;
    case State::closed:
      break;
  }
}

}  // namespace llm_proxy

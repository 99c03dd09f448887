#include "upstream/http_call.h"

#include <algorithm>
#include <utility>

#include "http/head_writer.h"
#include "http/retry_after.h"
#include "upstream/relay.h"

namespace llm_proxy {
namespace {

// Fields of a reply that belong to the upstream's connection, its cookies or its own site.
constexpr std::array<std::string_view, 9> kDroppedReplyFields{
    "content-length", "content-encoding",          "content-type", "date", "server", "set-cookie",
    "alt-svc",        "strict-transport-security", "cache-control"};

bool passes_on(const Field& field) {
  if (field.hop_by_hop) return false;
  if (field.name.size() >= 15 && iequals(field.name.substr(0, 15), "access-control-")) return false;
  return std::none_of(kDroppedReplyFields.begin(), kDroppedReplyFields.end(),
                      [&](std::string_view name) { return iequals(name, field.name); });
}

}  // namespace

HttpCall::HttpCall(WorkerContext& context, ReplySink& sink, UpstreamRequest request)
    : context_(context), sink_(&sink), request_(std::move(request)), deadline_([this] {
        fail(ErrorKind::upstream_timeout, state_ == State::body
                                              ? where() + " went silent in the middle of its reply"
                                              : where() + " did not answer in time");
      }) {}

// The connection goes before what it may still be writing.
HttpCall::~HttpCall() {
  connection_.reset();
}

std::string HttpCall::where() const {
  return request_.target->who;
}

void HttpCall::start() {
  if (auto idle = context_.pool().take_idle(request_.target->endpoint)) {
    send(*std::move(idle));
  } else {
    connect();
  }
}

void HttpCall::connect() {
  state_ = State::connecting;
  ticket_ = context_.pool().connect(
      request_.target->endpoint, request_.connect_timeout, [this](Result<Connection> connected) {
        context_.sweep();
        const auto ticket = std::move(ticket_);
        if (connected) {
          send(*std::move(connected));
        } else {
          auto error = connected.error();
          error.message = where() + " cannot be reached: " + error.message;
          fail(std::move(error));
        }
      });
}

void HttpCall::send(Connection connection) {
  connection_.emplace(std::move(connection));
  state_ = State::awaiting_head;
  std::uint64_t length = 0;
  for (const auto piece : request_.body) length += piece.size();
  head_text_.clear();
  if (connection_->absolute_form()) {
    HeadWriter(head_text_)
        .request_line(request_.method, "http://" + request_.target->authority + request_.path);
    if (!connection_->proxy_authorization().empty()) {
      HeadWriter(head_text_).field("proxy-authorization", connection_->proxy_authorization());
    }
  } else {
    HeadWriter(head_text_).request_line(request_.method, request_.path);
  }
  HeadWriter writer(head_text_);
  writer.field("host", request_.target->authority);
  head_text_ += request_.fields;
  if (request_.method != "GET") writer.field("content-length", length);
  writer.end();

  std::array<std::string_view, 6> pieces{head_text_};
  std::size_t count = 1;
  for (const auto piece : request_.body) {
    if (!piece.empty()) pieces[count++] = piece;
  }
  await_bytes();
  // A failed write is not looked at: what the upstream said before it closed is still to be read,
  // and the read tells.
  (void)connection_->stream().write({pieces.data(), count}, [](ErrorCode) {});
  // It may answer, or refuse, before it has taken everything.
  read();
}

// For the reply's first byte, or the next one.
void HttpCall::await_bytes() {
  if (request_.silence.count() > 0) {
    context_.worker().deadlines(request_.silence).arm(deadline_);
    return;
  }
  const auto& lists = context_.deadlines();
  (state_ == State::body ? lists.stream_idle : lists.first_byte)->arm(deadline_);
}

void HttpCall::read() {
  connection_->stream().read_scratch([this](ErrorCode error, std::string_view bytes) {
    context_.sweep();
    on_read(error, bytes);
  });
}

void HttpCall::on_read(const ErrorCode& error, std::string_view bytes) {
  if (error) {
    on_closed(error);
    return;
  }
  heard_ = true;
  if (state_ == State::body) {
    await_bytes();
    on_body_bytes(bytes);
  } else {
    on_head_bytes(bytes);
  }
}

void HttpCall::on_head_bytes(std::string_view bytes) {
  // Almost every head comes whole: parsed where it was read.
  if (!head_bytes_.empty()) {
    if (!head_bytes_.append(bytes)) {
      fail(ErrorKind::upstream_too_large, where() + " sends a head without end");
      return;
    }
    bytes = head_bytes_.view();
  }
  for (;;) {
    const auto size = parse_reply_head(bytes, {kMaxHead, 300}, /*to_head_request=*/false, head_);
    if (!size) {
      fail(ErrorKind::upstream_garbled, where() + ": " + size.error().message);
      return;
    }
    if (*size == 0) {
      if (bytes.size() != head_bytes_.size()) {
        const std::string rest(
            bytes);  // of a head behind an interim one, perhaps in the same bytes
        head_bytes_.clear();
        if (!head_bytes_.append(rest)) {
          fail(ErrorKind::upstream_too_large, where() + " sends a head without end");
          return;
        }
      }
      read();
      return;
    }
    const auto rest = bytes.substr(*size);
    if (!head_.interim()) {
      on_head(rest);
      return;
    }
    if (++interim_ > kMaxInterim) {
      fail(ErrorKind::upstream_garbled, where() + " sends interim replies without end");
      return;
    }
    bytes = rest;
  }
}

void HttpCall::on_head(std::string_view rest) {
  if (head_.status == 101) {
    fail(ErrorKind::upstream_garbled, where() + " switched protocols without being asked");
    return;
  }
  state_ = State::body;
  await_bytes();
  left_ = head_.content_length;
  if (head_.framing == Framing::chunked) chunks_.emplace(ErrorKind::upstream_garbled);
  if (const Field* field = head_.fields.find("content-encoding")) {
    const auto encoding = parse_content_encoding(field->value);
    if (!encoding) {
      fail(ErrorKind::upstream_garbled, where() + " uses a content-encoding we do not know");
      return;
    }
    if (*encoding != ContentEncoding::identity) {
      decoder_ = ContentDecoder::make(*encoding, Relay::kMaxWhole, ErrorKind::upstream_garbled);
    }
  }
  UpstreamHead head;
  head.status = head_.status;
  const auto type = head_.fields.value("content-type");
  head.content_type = type;
  head.event_stream = type.size() >= 17 && iequals(type.substr(0, 17), "text/event-stream");
  head.retry_after =
      parse_retry_after(head_.fields, head_.status, context_.worker().clock().unix_millis());
  HeadWriter writer(head.fields);
  for (const auto& field : head_.fields) {
    if (passes_on(field)) writer.field(field.name, field.value);
  }
  // The views end here: what follows may overwrite the bytes they point to.
  const std::string kept(head_bytes_.empty() ? std::string_view() : rest);
  if (!head_bytes_.empty()) rest = kept;
  head_bytes_.clear();
  const bool empty =
      head_.framing == Framing::none || (head_.framing == Framing::length && left_ == 0);
  sink_->on_head(std::move(head));
  if (sink_ == nullptr) return;
  if (empty) {
    complete(rest.empty() && head_.keep_alive);
  } else if (rest.empty()) {
    read();
  } else {
    on_body_bytes(rest);
  }
}

void HttpCall::on_body_bytes(std::string_view bytes) {
  if (decoder_) return begin_decoding(bytes);
  for (;;) {
    const auto payload = next_payload(bytes);
    if (!payload)
      return fail(ErrorKind::upstream_garbled, where() + ": " + payload.error().message);
    if (payload->empty()) break;
    if (!deliver(*payload)) return;
  }
  on_turn();
}

// Takes the framing off the front of `bytes`. Empty: they are used up, or the body has ended.
Result<std::string_view> HttpCall::next_payload(std::string_view& bytes) {
  if (chunks_) {
    while (!bytes.empty() && !chunks_->done()) {
      auto piece = chunks_->next(bytes);
      if (!piece || !piece->empty()) return piece;
    }
    ended_ = chunks_->done();
    reusable_ = bytes.empty() && head_.keep_alive;
    return std::string_view();
  }
  if (head_.framing != Framing::length) return std::exchange(bytes, {});
  const auto payload =
      bytes.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size())));
  bytes.remove_prefix(payload.size());
  left_ -= payload.size();
  ended_ = left_ == 0;
  reusable_ = bytes.empty() && head_.keep_alive;
  return payload;
}

// False: the sink has ended us.
bool HttpCall::deliver(std::string_view payload) {
  sink_->on_bytes(payload);
  return sink_ != nullptr;
}

// The bytes are kept until all they stand for has been given on.
void HttpCall::begin_decoding(std::string_view bytes) {
  unread_.clear();
  if (!unread_.append(bytes)) {
    return fail(ErrorKind::upstream_too_large, where() + " sends more at once than is read");
  }
  raw_ = unread_.view();
  coded_ = {};
  decode();
}

void HttpCall::decode() {
  decoding_ = true;
  for (std::size_t given = 0; given < kDecodedTurn;) {
    const auto slice = decoder_->next(coded_);
    if (!slice) return fail(slice.error().kind, where() + ": " + slice.error().message);
    if (!slice->empty()) {
      given += slice->size();
      if (!deliver(*slice)) return;
      continue;
    }
    const auto payload = next_payload(raw_);
    if (!payload)
      return fail(ErrorKind::upstream_garbled, where() + ": " + payload.error().message);
    if (payload->empty()) {
      decoding_ = false;
      break;
    }
    coded_ = *payload;
  }
  on_turn();
}

void HttpCall::decode_later() {
  if (!alive_) alive_ = std::make_shared<char>();
  context_.slices().add([this, alive = std::weak_ptr<void>(alive_)] {
    if (!alive.expired() && sink_ != nullptr) {
      context_.sweep();
      decode();
    }
    return false;  // decode() has asked for its next turn, if it needs one
  });
}

void HttpCall::on_turn() {
  // The end goes along with the last bytes: one write for both.
  if (ended_ && !decoding_) {
    complete(reusable_);
    return;
  }
  const bool go_on = sink_->on_turn();
  if (sink_ == nullptr) return;
  if (sink_->streaming()) connection_->stream().set_streaming(true);
  if (go_on) {
    decoding_ ? decode_later() : read();
  } else {
    paused_ = true;
    deadline_.disarm();
  }
}

void HttpCall::resume() {
  if (!std::exchange(paused_, false) || sink_ == nullptr) return;
  await_bytes();
  decoding_ ? decode() : read();
}

void HttpCall::on_closed(const ErrorCode& error) {
  if (!heard_ && connection_->reused() && !retried_) {
    retried_ = true;
    connection_.reset();
    connect();
    return;
  }
  if (state_ == State::body && head_.framing == Framing::until_close && is_eof(error)) {
    complete(false);
    return;
  }
  fail(state_ == State::body ? ErrorKind::upstream_cut : ErrorKind::upstream_unreachable,
       where() +
           (state_ == State::body ? " cut its reply" : " closed the connection without an answer"));
}

void HttpCall::complete(bool reusable) {
  if (decoder_) {
    if (const auto finished = decoder_->finish(); !finished) {
      fail(ErrorKind::upstream_garbled, where() + ": " + finished.error().message);
      return;
    }
  }
  state_ = State::done;
  deadline_.disarm();
  // A request still being written was answered early: its connection is of no further use.
  if (reusable && !connection_->stream().writing()) {
    context_.pool().release(*std::move(connection_));
  }
  connection_.reset();
  std::exchange(sink_, nullptr)->on_end();
}

void HttpCall::fail(ErrorKind kind, std::string message) {
  Error error{kind, std::move(message)};
  error.detail = request_.target->endpoint.authority();
  fail(std::move(error));
}

void HttpCall::fail(Error error) {
  if (sink_ == nullptr) return;
  state_ = State::done;
  deadline_.disarm();
  ticket_.reset();
  connection_.reset();
  std::exchange(sink_, nullptr)->on_failure(std::move(error));
}

void HttpCall::cancel() {
  sink_ = nullptr;
  state_ = State::done;
  deadline_.disarm();
  ticket_.reset();
  connection_.reset();
}

}  // namespace llm_proxy

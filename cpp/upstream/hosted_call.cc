#include "upstream/hosted_call.h"

#include <utility>

namespace llm_proxy {

HostedUpstream::HostedUpstream(WorkerContext& context, ReplySink& sink)
    : context_(context), sink_(&sink), silence_([this] { on_silence(); }) {}

void HostedUpstream::start(BackendHost& host, HostedRequest request) {
  instance_ = request.instance;
  await_bytes();
  call_ = host.call(std::move(request), shared_from_this(), context_.worker());
}

// For the head, or for what comes next.
void HostedUpstream::await_bytes() {
  const auto& lists = context_.deadlines();
  (begun_ ? lists.stream_idle : lists.first_byte)->arm(silence_);
}

void HostedUpstream::on_silence() {
  give_up({ErrorKind::upstream_timeout,
           "backend " + instance_ +
               (begun_ ? " went silent in the middle of its reply" : " did not answer in time")});
}

void HostedUpstream::give_up(Error error) {
  const auto self = shared_from_this();  // the sink may drop us
  auto* sink = std::exchange(sink_, nullptr);
  cancel();
  sink->on_failure(std::move(error));
}

void HostedUpstream::cancel() {
  sink_ = nullptr;
  silence_.disarm();
  queued_.clear();
  if (call_) std::exchange(call_, nullptr)->cancel();
}

void HostedUpstream::resume() {
  waiting_ = false;
  deliver();
}

void HostedUpstream::on_head(HostedHead head) {
  if (sink_ == nullptr) return;
  begun_ = true;
  UpstreamHead out;
  out.status = head.status;
  out.event_stream = head.streaming;
  out.content_type = head.media_type.empty()
                         ? (head.streaming ? "text/event-stream" : "application/json")
                         : std::move(head.media_type);
  for (const auto& [name, value] : head.headers) {
    // A plugin's header must not be able to write another one.
    if (name.find_first_of("\r\n:") != std::string::npos ||
        value.find_first_of("\r\n") != std::string::npos) {
      continue;
    }
    out.fields += name + ": " + value + "\r\n";
  }
  sink_->on_head(std::move(out));
}

void HostedUpstream::on_data(std::string bytes) {
  if (sink_ == nullptr) return;
  if (!queued_.append(bytes)) return give_up(reply_too_large());
  deliver();
}

void HostedUpstream::on_end() {
  ending_ = Ending::well;
  deliver();
}

void HostedUpstream::on_error(Error error) {
  ending_ = Ending::badly;
  error_ = std::move(error);
  deliver();
}

void HostedUpstream::deliver() {
  const auto self = shared_from_this();  // the sink may drop us
  if (sink_ != nullptr && !waiting_ && !queued_.empty()) {
    const auto bytes = queued_.take();
    sink_->on_bytes(bytes);
    if (sink_ != nullptr) waiting_ = !sink_->on_turn();
    if (call_) call_->consumed(bytes.size());
  }
  if (sink_ == nullptr || waiting_) {
    silence_.disarm();  // it is the client that is waited for, if anybody is
  } else {
    await_bytes();
  }
  if (sink_ == nullptr || waiting_ || !queued_.empty() || ending_ == Ending::none) return;
  auto* sink = std::exchange(sink_, nullptr);
  silence_.disarm();
  call_.reset();
  if (ending_ == Ending::well) {
    sink->on_end();
  } else {
    sink->on_failure(std::move(error_));
  }
}

}  // namespace llm_proxy

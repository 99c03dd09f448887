#include "upstream/side_call.h"

#include <utility>

namespace llm_proxy {
namespace {

UpstreamRequest with_body(UpstreamRequest request, std::string_view body) {
  request.body = {body};
  return request;
}

}  // namespace

SideCall::SideCall(WorkerContext& context, UpstreamRequest request, std::string body, Done done)
    : body_(std::move(body)),
      done_(std::move(done)),
      call_(context, *this, with_body(std::move(request), body_)) {}

void SideCall::on_bytes(std::string_view payload) {
  too_long_ = too_long_ || answer_.body.size() + payload.size() > kMaxBody;
  if (!too_long_) answer_.body += payload;
}

void SideCall::on_end() {
  if (too_long_) answer_ = {};
  done_(std::move(answer_));
}

void SideCall::on_failure(Error) {
  done_({});
}

}  // namespace llm_proxy

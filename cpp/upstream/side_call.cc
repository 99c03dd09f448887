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
    : context_(context),
      body_(std::move(body)),
      done_(std::move(done)),
      call_(context, *this, with_body(std::move(request), body_)) {}

void SideCall::on_bytes(std::string_view payload) {
  if (answer_.append(payload)) return;
  // The call is on the stack, and whoever is told may drop us: told by a handler of its own.
  call_.cancel();
  context_.worker().post([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->tell({});
  });
}

void SideCall::on_end() {
  tell({status_, answer_.take()});
}

void SideCall::on_failure(Error) {
  tell({});
}

void SideCall::tell(Answer answer) {
  if (const auto done = std::exchange(done_, nullptr)) done(std::move(answer));
}

}  // namespace llm_proxy

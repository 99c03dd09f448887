// The part of an exchange that the proxy answers by itself: health, diagnostics, admin, model
// lists.

#include <utility>

#include "exchange/diagnostics.h"
#include "exchange/exchange.h"
#include "exchange/model_list.h"
#include "http/head_writer.h"
#include "http/url.h"
#include "json/writer.h"

namespace llm_proxy {

void Exchange::answer_health() {
  send_reply(200, {}, kJson, encode_health(*snapshot_, context_.stats(), context_.worker().now()));
}

void Exchange::answer_diagnostics() {
  send_reply(200, {}, kJson,
             encode_diagnostics(*snapshot_, context_.models(), context_.stats(),
                                context_.worker().now(), context_.worker().clock().unix_millis()));
}

void Exchange::reactivate() {
  if (!session_->request().admin) {
    return send_error({ErrorKind::forbidden,
                       "an admin key is needed here: set LLM_PROXY_ADMIN_KEYS (auth.admin_keys)"});
  }
  const auto wanted = percent_decode(session_->request().frontend.rest).value_or(std::string());
  for (const auto& backend : snapshot_->config->backends) {
    if (backend.name != wanted) continue;
    snapshot_->key_pool(backend).reactivate();
    std::string body;
    JsonWriter(body)
        .begin_object()
        .member("instance", backend.name)
        .member("status", "reactivated")
        .end_object();
    return send_reply(200, {}, kJson, std::move(body));
  }
  send_error({ErrorKind::not_found,
              "no backend is called '" + wanted + "': GET /v1/diagnostics lists them"});
}

void Exchange::answer_admin() {
  if (context_.admin() == nullptr) {
    return send_error({ErrorKind::not_found, "the admin API needs Python, which is not here"});
  }
  const auto& request = session_->request();
  AdminRequest asked;
  asked.method = request.head.method;
  asked.path = request.head.path;
  asked.query = without_credentials(request.head.query, request.key);
  asked.body = request.body.view();
  asked.headers = client_headers();
  asked.client_host = request.peer;
  asked.admin = request.admin;
  admin_call_ = context_.admin()->call(
      std::move(asked), context_.worker(), [weak = weak_from_this()](AdminReply reply) {
        const auto self = weak.lock();
        if (!self || self->session_ == nullptr) return;
        std::string fields;
        HeadWriter writer(fields);
        for (const auto& [name, value] : reply.headers) writer.field(name, value);
        self->send_reply(reply.status, fields, reply.content_type, std::move(reply.body));
      });
}

void Exchange::answer_models() {
  with_models([](Exchange& self, const std::vector<ListedModel>& models) {
    self.send_reply(200, {}, kJson, self.client_format().encode_models(models, self.unix_now()));
  });
}

void Exchange::answer_model() {
  with_models([](Exchange& self, const std::vector<ListedModel>& models) {
    const auto wanted =
        percent_decode(self.session_->request().frontend.rest).value_or(std::string());
    for (const auto& model : models) {
      if (model.id == wanted) {
        return self.send_reply(200, {}, kJson,
                               self.client_format().encode_model(model, self.unix_now()));
      }
    }
    self.send_error({ErrorKind::unknown_model,
                     "no model is called '" + wanted + "' here: GET /v1/models lists them"});
  });
}

// The configured models, and those that providers and hosted backends name when asked.
void Exchange::with_models(void (*use)(Exchange&, const std::vector<ListedModel>&)) {
  context_.lister().list(snapshot_,
                         [weak = weak_from_this(), use](const std::vector<HostedModels>& models) {
                           const auto self = weak.lock();
                           if (!self || self->session_ == nullptr || self->done_) return;
                           use(*self, list_models(self->snapshot_->routes, models));
                         });
}

}  // namespace llm_proxy

# Whether a request is let through, by Muster's deny list. `input` says who asks, as Muster's own doors read it:
# {"agent": …, "instance": …, "credential": …, "token": …, "user": …, "client": …, "grants": […]}
package muster

default allow := true

allow := false if {
	count(orders) > 0
	not protected
}

# A rule of its own: a question that names no agent would leave `not … in …` undefined, and let everything through.
protected if input.agent in data.muster_list.protected

# The orders that stop this request.
orders contains data.muster_list.denied.agent[input.agent]

orders contains data.muster_list.denied.instance[input.agent][input.instance]

orders contains data.muster_list.denied.agent_user[input.agent][input.user]

orders contains data.muster_list.denied.credential[input.credential]

orders contains data.muster_list.denied.token[input.token]

orders contains data.muster_list.denied.client[input.client]

orders contains data.muster_list.denied.client[input.agent]

orders contains order if {
	some grant in input.grants
	order := data.muster_list.denied.delegation[grant]
}

orders contains order if some order in data.muster_list.denied.tenant

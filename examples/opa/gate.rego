# A policy of your own on top of Muster's: who is stopped is refused whatever else is allowed, and the order is told.
package gate

default allow := false

allow if {
	data.muster.allow
	input.method in {"GET", "HEAD"}
}

reasons contains sprintf("stopped by order %s", [order]) if some order in data.muster.orders

;; Hostile: healthy at first, then recursion without end. Its linear memory stays at one page, so no limit of the module
;; is passed: what grows is the interpreter's own stack, by a frame with 256 locals for each call. Only the control group
;; of its runner stops that. In WebAssembly text because a compiler would turn the locals into something else.
(module
  (import "iotwasm" "iotwasm_health" (func $health (param i32 i32 i32) (result i32)))
  (import "iotwasm" "iotwasm_wait" (func $wait (param i64) (result i32)))
  (memory (export "memory") 1 1)
  (data (i32.const 0) "not hungry yet")

  (func (export "iotwasm_self_test") (result i32)
    (i32.const 0))

  (func (export "iotwasm_run")
    (local $second i32)
    (loop $healthy
      (drop (call $health (i32.const 0) (i32.const 0) (i32.const 14)))
      (if (call $wait (i64.const 1000))
        (then (return))) ;; stopping
      (local.set $second (i32.add (local.get $second) (i32.const 1)))
      (br_if $healthy (i32.lt_u (local.get $second) (i32.const 5))))
    (drop (call $deeper (i64.const 0))))

  ;; The addition after the call keeps it from being a tail call.
  (func $deeper (param $depth i64) (result i64)
    (local
      i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64
      i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64
      i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64
      i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64
      i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64
      i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64
      i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64
      i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64
      i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64
      i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64
      i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64
      i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64
      i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64
      i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64
      i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64
      i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64)
    (i64.add
      (call $deeper (i64.add (local.get $depth) (i64.const 1)))
      (local.get 255))))

;; A Catmull-Rom spline, both coordinates at once: a point (x, y) is one f64x2.
;;
;; The corners lie at 0, 16 bytes each, with one before the first point and two behind the last.
;; `render` writes `count` samples to `out`. The first is `rest`/`last` of the way along the segment
;; that the four corners at `corner` shape, and each is `segments`/`last` further than the one before.
;; The sums are those of the other renderers in splines.py, in their order: so are the bits.
(module
  ;; Pages of 64 KiB: 3 for the corners, 4 for samples. It does not grow.
  (memory (export "memory") 7 7)
  (func (export "render")
    (param $corner i32) (param $rest i32) (param $segments i32) (param $last i32)
    (param $out i32) (param $count i32)
    (local $end i32) (local $t v128)
    (local $p0 v128) (local $p1 v128) (local $p2 v128) (local $p3 v128)
    (local $b v128) (local $c v128) (local $d v128)
    (local.set $end (i32.add (local.get $out) (i32.shl (local.get $count) (i32.const 4))))
    (loop $segment
      (local.set $p0 (v128.load (local.get $corner)))
      (local.set $p1 (v128.load offset=16 (local.get $corner)))
      (local.set $p2 (v128.load offset=32 (local.get $corner)))
      (local.set $p3 (v128.load offset=48 (local.get $corner)))
      ;; b = (p2 - p0) / 2
      (local.set $b
        (f64x2.mul
          (f64x2.sub (local.get $p2) (local.get $p0))
          (v128.const f64x2 0.5 0.5)))
      ;; c = p0 - 2.5 p1 + 2 p2 - p3 / 2
      (local.set $c
        (f64x2.sub
          (f64x2.add
            (f64x2.sub
              (local.get $p0)
              (f64x2.mul (local.get $p1) (v128.const f64x2 2.5 2.5)))
            (f64x2.mul (local.get $p2) (v128.const f64x2 2 2)))
          (f64x2.mul (local.get $p3) (v128.const f64x2 0.5 0.5))))
      ;; d = 1.5 (p1 - p2) + (p3 - p0) / 2
      (local.set $d
        (f64x2.add
          (f64x2.mul
            (f64x2.sub (local.get $p1) (local.get $p2))
            (v128.const f64x2 1.5 1.5))
          (f64x2.mul
            (f64x2.sub (local.get $p3) (local.get $p0))
            (v128.const f64x2 0.5 0.5))))
      (block $over
        (loop $sample
          (br_if $over (i32.ge_u (local.get $rest) (local.get $last)))
          (br_if $over (i32.ge_u (local.get $out) (local.get $end)))
          (local.set $t
            (f64x2.splat
              (f64.div
                (f64.convert_i32_u (local.get $rest))
                (f64.convert_i32_u (local.get $last)))))
          ;; ((d t + c) t + b) t + p1
          (v128.store (local.get $out)
            (f64x2.add
              (f64x2.mul
                (f64x2.add
                  (f64x2.mul
                    (f64x2.add
                      (f64x2.mul (local.get $d) (local.get $t))
                      (local.get $c))
                    (local.get $t))
                  (local.get $b))
                (local.get $t))
              (local.get $p1)))
          (local.set $out (i32.add (local.get $out) (i32.const 16)))
          (local.set $rest (i32.add (local.get $rest) (local.get $segments)))
          (br $sample)))
      (local.set $rest (i32.sub (local.get $rest) (local.get $last)))
      (local.set $corner (i32.add (local.get $corner) (i32.const 16)))
      (br_if $segment (i32.lt_u (local.get $out) (local.get $end))))))
